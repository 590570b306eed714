/** Numbers of Linux's interface, with the kernel's names. Those that differ between architectures come from Node. */
import { constants } from 'node:fs'

// open(2). O_DIRECTORY, O_NOFOLLOW and O_DIRECT have other values on aarch64 than on x86-64.
export const O_RDONLY = constants.O_RDONLY
export const O_WRONLY = constants.O_WRONLY
export const O_RDWR = constants.O_RDWR
export const O_CREAT = constants.O_CREAT
export const O_EXCL = constants.O_EXCL
export const O_TRUNC = constants.O_TRUNC
export const O_APPEND = constants.O_APPEND
export const O_NONBLOCK = constants.O_NONBLOCK
export const O_NOCTTY = constants.O_NOCTTY
export const O_DIRECTORY = constants.O_DIRECTORY
export const O_NOFOLLOW = constants.O_NOFOLLOW
export const O_PATH = 0o10000000

// openat2(2).
export const RESOLVE_NO_XDEV = 0x01
export const RESOLVE_NO_MAGICLINKS = 0x02
export const RESOLVE_NO_SYMLINKS = 0x04
export const RESOLVE_BENEATH = 0x08
export const RESOLVE_IN_ROOT = 0x10

// The *at calls.
export const AT_FDCWD = -100
export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_REMOVEDIR = 0x200
export const AT_SYMLINK_FOLLOW = 0x400
export const AT_EMPTY_PATH = 0x1000

// renameat2(2).
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4

// inode(7).
export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
export const S_ISUID = 0o4000
export const S_ISGID = 0o2000
export const S_ISVTX = 0o1000

// readdir(3); the file type bits shifted by 12.
export const DT_UNKNOWN = 0
export const DT_FIFO = 1
export const DT_CHR = 2
export const DT_DIR = 4
export const DT_BLK = 6
export const DT_REG = 8
export const DT_LNK = 10
export const DT_SOCK = 12

// lseek(2).
export const SEEK_SET = 0
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

// setxattr(2).
export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2

// fallocate(2).
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2

// mount_setattr(2).
export const MOUNT_ATTR_RDONLY = 0x00000001
export const MOUNT_ATTR_NOSUID = 0x00000002
export const MOUNT_ATTR_NODEV = 0x00000004
export const MOUNT_ATTR_NOEXEC = 0x00000008
/** The three access time modes are one field: clear it whole before setting one. */
export const MOUNT_ATTR__ATIME = 0x00000070
export const MOUNT_ATTR_RELATIME = 0x00000000
export const MOUNT_ATTR_NOATIME = 0x00000010
export const MOUNT_ATTR_STRICTATIME = 0x00000020
export const MOUNT_ATTR_NODIRATIME = 0x00000080
export const MOUNT_ATTR_IDMAP = 0x00100000
export const MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

// mount(2), propagation.
export const MS_REC = 0x4000
export const MS_UNBINDABLE = 0x20000
export const MS_PRIVATE = 0x40000
export const MS_SLAVE = 0x80000
export const MS_SHARED = 0x100000

// prctl(2).
export const PR_SET_CHILD_SUBREAPER = 36

// statfs(2).
export const CGROUP2_SUPER_MAGIC = 0x63677270
export const OVERLAYFS_SUPER_MAGIC = 0x794c7630
export const TMPFS_MAGIC = 0x01021994
