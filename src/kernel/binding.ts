import { fileURLToPath } from 'node:url'

/** A path or file name. Bytes where it comes from a tar or a hostile directory: names need not be UTF-8. Holds no NUL. */
export type Path = string | Uint8Array

/** Where a file is and what it is, as statx(2) tells it. */
export interface FileStatus {
  /** Type (S_IF*) and permission bits. */
  mode: number
  nlink: number
  uid: number
  gid: number
  size: bigint
  /** Of 512 bytes. */
  blocks: bigint
  ino: bigint
  devMajor: number
  devMinor: number
  rdevMajor: number
  rdevMinor: number
  atimeNs: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  mountId: bigint
}

/** How a process ended; `code` is 128 + signal where a signal ended it. */
export interface ExitStatus {
  code: number
  signal: number
}

/**
 * The whole addon, in the order of native/addon/module.cc. One function, one kernel act; no policy, no retry, no default. A failed
 * call throws (or rejects with) an Error with `code` ('ENOENT'), `errno` (negative), `syscall` and `path`, as Node's own do; an argument
 * of a wrong type is a TypeError that names it. All fds are close-on-exec. A promise runs on a thread of its own and keeps the program
 * alive; a process that exits, or a worker that ends, drops it. Works in worker threads, too.
 *
 * This file alone loads the addon; the other files of kernel/ are what berth calls.
 */
export interface Binding {
  // -- files below a root -------------------------------------------------------------------------------
  /**
   * openat2(2). `resolve` are RESOLVE_* bits. Returns the fd. `mode` must be 0 without O_CREAT or O_TMPFILE. With `orMissing` it is -1 where nothing is there: an
   * error costs more than all else that is done for a file.
   */
  openat2(
    dirfd: number,
    path: Path,
    flags: number,
    mode: number,
    resolve: number,
    orMissing?: boolean,
  ): number
  mkdirat(dirfd: number, path: Path, mode: number): void
  /** `mode` has type and permission bits. */
  mknodat(dirfd: number, path: Path, mode: number, major: number, minor: number): void
  symlinkat(target: Path, dirfd: number, path: Path): void
  linkat(fromDirfd: number, from: Path, toDirfd: number, to: Path, flags: number): void
  unlinkat(dirfd: number, path: Path, flags: number): void
  readlinkat(dirfd: number, path: Path): Buffer
  /** statx(2) with AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH as given. */
  statx(dirfd: number, path: Path, flags: number): FileStatus
  /** Names of a directory as bytes, without '.' and '..', with their DT_* types. From the beginning, whatever was read before. */
  readdir(dirfd: number): { name: Buffer; type: number }[]
  /** lseek(2); ENXIO where SEEK_DATA finds nothing more. */
  lseek(fd: number, offset: number, whence: number): number
  /** Extended attributes of an open file, or (O_PATH, also of a link itself) through /proc/self/fd. */
  fgetxattr(fd: number, name: string): Buffer
  fsetxattr(fd: number, name: string, value: Uint8Array, flags: number): void
  flistxattr(fd: number): string[]
  /** flock(2) without waiting: EAGAIN where another holds it. */
  flock(fd: number, exclusive: boolean): void
  /** flock(2) that waits, on its own thread; cannot be called off. The fd must stay open until it settles. */
  flockWait(fd: number, exclusive: boolean): Promise<void>
  /**
   * Makes directories (S_IFDIR in their mode; one that is there stays) and empty files (which must not be there), in order. Own thread: a new file may take some
   * tenths of a millisecond.
   */
  makeNodes(paths: readonly string[], modes: readonly number[]): Promise<void>
  /** The fd must stay open until it settles. */
  syncfs(fd: number): Promise<void>
  /** realpath(3). Own thread: a file server that is gone holds up nobody else. */
  realPath(path: string): Promise<string>
  /** Whole small files (at most 1 MiB, else EFBIG), one after the other: the bytes as latin1 text, or an errno (positive). Own thread. */
  readFiles(paths: readonly string[]): Promise<(string | number)[]>
  /**
   * What cgroups use: for each a row of numbers (the columns of kernel/group-usage.ts), NaN where the group or its controller is not there. With `processes`, a
   * group without the controllers memory or pids has its processes asked. Its files stay open, within limits, until `forgetGroup`. Own thread.
   */
  readGroups(paths: readonly string[], processes: boolean): Promise<Float64Array>
  forgetGroup(path: string): void

  // -- mounts, all by fd; only moveMount and unmount touch a mount table -----------------------------------------------------
  /**
   * An overlay by fsopen, fsconfig and fsmount, or (before Linux 6.7, and for paths of more than 255 bytes) by mount(2) in a mount namespace of a
   * thread; returns a detached mount's fd. Without upper: read-only, and then the kernel demands two layers. `lower` topmost first.
   */
  overlayMount(options: {
    lower: readonly string[]
    upper?: string
    work?: string
    options: readonly string[]
  }): number
  /** open_tree(2) with OPEN_TREE_CLONE of `path`; detached. */
  openTree(path: string, recursive: boolean): number
  /** mount_setattr(2) on a detached mount or path fd. */
  mountSetattr(fd: number, set: number, clear: number, recursive: boolean): void

  /** move_mount(2) of a detached mount to a directory: it is then in the mount table of our namespace. */
  moveMount(fd: number, path: string): void
  /** umount2(2) of what is mounted at the path itself; EBUSY where it is in use and not `lazy`. */
  unmount(path: string, lazy: boolean): void
  /**
   * All mount namespaces that we may manage, our own first, also those without a process: by numbers that no other has until a reboot. Undefined before Linux
   * 6.12 and for who may not know (NS_MNT_GET_NEXT of linux/nsfs.h).
   */
  mountNamespaces(): bigint[] | undefined

  // -- processes -------------------------------------------------------------------------------------------
  /**
   * clone(CLONE_VM|CLONE_VFORK|CLONE_PIDFD) + execveat of `file` (an fd, or a path: a script needs its name), nothing else. `fds[i]` becomes
   * fd i of the child, all others are closed; its signals are all at their defaults and unblocked. With `group` it leads a process
   * group of its own, with `directory` it stands there. Throws where the exec fails.
   */
  spawn(options: {
    file: number | string
    args: readonly string[]
    env: readonly string[]
    fds: readonly number[]
    group?: boolean
    directory?: string
  }): { pid: number; status: Promise<ExitStatus> }
  /** pipe2(2). */
  pipe(): { read: number; write: number }
  /** Bytes in a pipe that nobody has read yet (FIONREAD), of either of its ends. */
  unread(fd: number): number
  /** _exit(2): what is written is written, and nothing else is done. Node takes its heap and threads down first, and waits for them. */
  exitNow(code: number): never
  /** memfd_create(2): a file without a name. */
  memfd(name: string): number
  pidfdOpen(pid: number): number
  pidfdSendSignal(pidfd: number, signal: number): void

  // -- cgroup and BPF ------------------------------------------------------------------------------------------
  /** BPF_PROG_LOAD of type CGROUP_DEVICE; returns the program's fd. A refused program's error ends in the verifier's words. */
  bpfLoadDevice(instructions: Uint8Array): number
  /** BPF_PROG_ATTACH of it to a cgroup directory's fd with BPF_F_ALLOW_MULTI (and BPF_F_REPLACE of `replace` when ≥ 0). */
  bpfAttachDevice(cgroupFd: number, programFd: number, replace: number): void
  bpfDetachDevice(cgroupFd: number, programFd: number): void
  /** BPF_PROG_QUERY + BPF_PROG_GET_FD_BY_ID: fds of the device programs attached to a cgroup. */
  bpfQueryDevice(cgroupFd: number): number[]
  /** poll(2) for POLLPRI on a cgroup events file, until it changes since it was last read or the timeout ends (false; -1 for none). */
  pollPriority(fd: number, timeoutMs: number): Promise<boolean>

  // -- sockets ---------------------------------------------------------------------------------------------------
  /** /proc/net/dev of the network namespace at `path` (setns(2)). Own thread, which ends with it. */
  netnsStats(path: string): Promise<string>
  /** The same of many, one after the other on one thread; what has failed is in its place. */
  netnsStatsOfAll(paths: readonly string[]): Promise<(string | Error)[]>
  /**
   * A TCP connection made in the network namespace at `path`; the fd is non-blocking. `host` is an address; ETIMEDOUT after `timeoutMs` (-1: the
   * kernel's own). Own thread, which ends with it.
   */
  connectIn(path: string, host: string, port: number, timeoutMs: number): Promise<number>
  /** One datagram to a UNIX socket, as sd_notify(3) sends it: `path` is absolute, or an abstract name after '@'. EAGAIN where nobody reads. */
  notifySocket(path: string, text: string): void
  /** A datagram socket at a new path of at most 107 bytes. */
  bindDatagram(path: string): number
  /** The next datagram, cut after 4096 bytes; undefined where the process has ended and none is waiting. Own thread. */
  receiveDatagram(fd: number, pidfd: number): Promise<Buffer | undefined>

  /**
   * Acts in the network namespace at `path` ('' for our own), one after the other, until a request fails. A Uint8Array is one netlink request of the protocol,
   * with NLM_F_ACK or NLM_F_DUMP, to which its outcome is all messages that answer it, or the errno (negative) of its refusal: the last one then. A pair is a
   * file, named as in the namespace's /proc/sys, and what is written to it: its outcome is 0 or the errno (negative), and the next one follows. Own
   * thread, which ends with it.
   */
  networkActs(
    path: string,
    protocol: number,
    acts: readonly (Uint8Array | readonly [file: string, text: string])[],
  ): Promise<(Buffer | number)[]>

  /** A listening UNIX stream socket NAME in a directory, mode 0600; returns its fd. */
  listenUnix(dirfd: number, name: string): number
  /** accept4(2), non-blocking fd, with SO_PEERCRED. Own thread, which waits; EINVAL after shutdownSocket of the listener. */
  acceptUnix(fd: number): Promise<{ fd: number; pid: number; uid: number }>
  /** shutdown(2) in both directions. */
  shutdownSocket(fd: number): void
  /** sendmsg(2) without waiting, with SCM_RIGHTS where there are `fds`; returns how many bytes it took. EAGAIN where the other side reads nothing. */
  sendDescriptors(fd: number, bytes: Uint8Array, fds: readonly number[]): number

  // -- system ---------------------------------------------------------------------------------------------------
  /** Clears OPOST of a terminal (termios(3)): Node's raw mode leaves newline translation on. */
  rawOutput(fd: number): void

  // -- whole files and trees, for layers -------------------------------------------------------------------------
  /**
   * A new regular file (O_EXCL). With `data`: written, all attributes set, closed, -1. Without: an open fd to write to and to finish with
   * setAttributes. `mode`, `uid`, `gid` -1 and `mtimeNs` undefined keep what is there; `xattrs` is rows of `u16 size of the name with its NUL,
   * name, u32 size of the value, value` in the host's byte order.
   */
  createFile(
    dirfd: number,
    name: string | Uint8Array,
    mode: number,
    uid: number,
    gid: number,
    mtimeNs: bigint | undefined,
    xattrs: Uint8Array | undefined,
    data: Uint8Array | undefined,
  ): number
  /** Owner, mode, xattrs, times, in the order that keeps them all; of `dirfd` itself where `name` is ''. Never through a link. */
  setAttributes(
    dirfd: number,
    name: string | Uint8Array,
    mode: number,
    uid: number,
    gid: number,
    mtimeNs: bigint | undefined,
    xattrs: Uint8Array | undefined,
  ): void
  /**
   * Removes a file or a tree of any depth; nothing there is success. It is renamed to `trash`, a new name below `trashDirfd` on the same file
   * system, first. Own thread.
   */
  removeTree(
    dirfd: number,
    name: string | Uint8Array,
    trashDirfd: number,
    trash: string,
  ): Promise<void>
  removeTreeNow(dirfd: number, name: string | Uint8Array, trashDirfd: number, trash: string): void
  /** Disk usage below a directory, hard links once, this file system only. Own thread. */
  treeUsage(fd: number): Promise<{ bytes: number; inodes: number }>

  // -- decompression, for layers (native/layer/decoder.h) ----------------------------------------------------------
  /** By ISA-L where it is installed and `extra`, else by zlib. Undefined where there is neither. */
  gzipDecoder(extra: boolean): Decoder | undefined
  /** By the machine's libzstd; undefined where there is none, or not `extra`. Windows are at most 2^windowLog bytes. */
  zstdDecoder(extra: boolean, windowLog: number): Decoder | undefined
  /**
   * Goes on until the input is used up or the output full: with room left there, more input is wanted. `counts` becomes the bytes taken and
   * made. After any verdict but `good` the decoder is of no more use.
   */
  decode(
    decoder: Decoder,
    input: Uint8Array,
    output: Uint8Array,
    counts: Float64Array,
  ): (typeof VERDICT)[keyof typeof VERDICT]
  /** The library at work, whether the stream may end here, and what is damaged. */
  decoderState(decoder: Decoder): { library: string; isWhole: boolean; reason: string }
  /**
   * A decoder (as gzipDecoder's and zstdDecoder's) at work on a thread beside the caller's, which also hashes what it makes. It fills two
   * outputs of so many bytes in turn: the caller uses one while the thread fills the other. Undefined where the libraries for it are missing.
   */
  openAhead(
    kind: 'gzip' | 'zstd',
    extra: boolean,
    windowLog: number,
    outputBytes: number,
  ): { ahead: Ahead; outputs: readonly [Buffer, Buffer] } | undefined
  /**
   * Takes more input, if given, and fills an output as far as it goes: `made` bytes, `left` of the input. One call at a time. Where the output
   * is not full, more input is wanted.
   */
  decodeAhead(
    ahead: Ahead,
    input: Uint8Array | undefined,
    which: 0 | 1,
  ): Promise<{
    verdict: (typeof VERDICT)[keyof typeof VERDICT]
    made: number
    left: number
  }>
  /** As decoderState, with the digest of all that was made ('' where it failed). Once, after the last call. */
  endAhead(ahead: Ahead): { library: string; isWhole: boolean; reason: string; sha256: string }
}

declare const decoder: unique symbol
/** Of the thread that opened it. */
export type Decoder = { readonly [decoder]: never }

declare const ahead: unique symbol
/** Of Binding.openAhead. */
export type Ahead = { readonly [ahead]: never }

/** Of Binding.decode. */
export const VERDICT = { good: 0, damaged: 1, window: 2, dictionary: 3, noMemory: 4 } as const

/** build/Release of the package, seen from dist/src/kernel/. */
export const NATIVE_DIRECTORY = new URL('../../../build/Release/', import.meta.url)

function load(): Binding {
  // What require() does in the end: without its search for a package around the file.
  const addon = { exports: {} }
  process.dlopen(addon, fileURLToPath(new URL('berth.node', NATIVE_DIRECTORY)))
  return addon.exports as Binding
}

export const binding = load()
