/** Numbers of Linux's interface, with the kernel's names. Those that differ between architectures come from Node. */
import { constants } from 'node:fs'

// open(2). O_DIRECTORY, O_NOFOLLOW and O_DIRECT have other values on aarch64 than on x86-64.
export const O_RDONLY = constants.O_RDONLY
export const O_WRONLY = constants.O_WRONLY
export const O_RDWR = constants.O_RDWR
export const O_CREAT = constants.O_CREAT
export const O_EXCL = constants.O_EXCL
export const O_TRUNC = constants.O_TRUNC
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

// inode(7).
export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000

// readdir(3); the file type bits shifted by 12.
export const DT_DIR = 4
export const DT_LNK = 10

// lseek(2).
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

// setxattr(2).
export const XATTR_CREATE = 1

// mount_setattr(2).
export const MOUNT_ATTR_RDONLY = 0x00000001
export const MOUNT_ATTR_NOSUID = 0x00000002
export const MOUNT_ATTR_NODEV = 0x00000004
