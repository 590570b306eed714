import { createRequire } from 'node:module'

/**
 * The whole addon, in the order of native/addon/module.cc. One function, one kernel act; no policy, no retry, no default. A failed
 * call throws (or rejects with) an Error with `code` ('ENOENT'), `errno`, `syscall` and `path`, as Node's own do. All fds are close-on-exec.
 *
 * This file alone loads the addon; the other files of kernel/ are what berth calls.
 */
export interface Binding {
  // -- files below a root -------------------------------------------------------------------------------
  /** openat2(2). `resolve` are RESOLVE_* bits. Returns the fd. */
  openat2(dirfd: number, path: string, flags: number, mode: number, resolve: number): number
  mkdirat(dirfd: number, path: string, mode: number): void
  mknodat(dirfd: number, path: string, mode: number, major: number, minor: number): void
  symlinkat(target: string, dirfd: number, path: string): void
  linkat(fromDirfd: number, from: string, toDirfd: number, to: string, flags: number): void
  unlinkat(dirfd: number, path: string, flags: number): void
  renameat2(fromDirfd: number, from: string, toDirfd: number, to: string, flags: number): void
  readlinkat(dirfd: number, path: string): Buffer
  fchownat(dirfd: number, path: string, uid: number, gid: number, flags: number): void
  fchmodat(dirfd: number, path: string, mode: number): void
  /** Times are nanoseconds since the epoch; `flags` e.g. AT_SYMLINK_NOFOLLOW. */
  utimensat(dirfd: number, path: string, atimeNs: bigint, mtimeNs: bigint, flags: number): void
  /** statx(2) with AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH as given. Includes btime, mount id, rdev. */
  statx(dirfd: number, path: string, flags: number): {
    mode: number
    nlink: number
    uid: number
    gid: number
    size: bigint
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
  /** Names of a directory as bytes, without '.' and '..', with their DT_* types. */
  readdir(dirfd: number): { name: Buffer; type: number }[]
  /** Extended attributes of an open file, or (O_PATH) through /proc/self/fd. */
  fgetxattr(fd: number, name: string): Buffer
  fsetxattr(fd: number, name: string, value: Uint8Array, flags: number): void
  flistxattr(fd: number): string[]
  fremovexattr(fd: number, name: string): void
  /** flock(2); `block` false throws EWOULDBLOCK. The blocking form runs on its own thread. */
  flock(fd: number, exclusive: boolean): void
  flockWait(fd: number, exclusive: boolean): Promise<void>
  funlock(fd: number): void
  /** lseek with SEEK_DATA (3) or SEEK_HOLE (4). -1 for ENXIO. */
  seek(fd: number, offset: bigint, whence: number): bigint
  /** Frees or preallocates: fallocate(2). */
  fallocate(fd: number, mode: number, offset: bigint, length: bigint): void
  syncfs(fd: number): Promise<void>
  /** statfs(2). */
  statfs(fd: number): { type: number; blockSize: number; blocks: bigint; blocksFree: bigint; blocksAvailable: bigint; files: bigint; filesFree: bigint }

  // -- mounts, all by fd, none in the host's mount table -----------------------------------------------------
  /** fsopen + fsconfig + fsmount of an overlay; returns a detached mount's fd. Without upper: read-only. */
  overlayMount(options: { lower: string[]; upper?: string; work?: string; options: string[] }): number
  /** open_tree(2) with OPEN_TREE_CLONE of `path`; detached. */
  openTree(path: string, recursive: boolean): number
  /** mount_setattr(2) on a detached mount or path fd. */
  mountSetattr(fd: number, set: number, clear: number, recursive: boolean): void

  // -- processes -------------------------------------------------------------------------------------------
  /**
   * clone3(CLONE_VM|CLONE_VFORK|CLONE_PIDFD) + execveat of `file` (an fd), nothing else. `fds[i]` becomes fd i of the child, all
   * others are closed. Resolves with the wait status word (waitid on the pidfd, own thread).
   */
  spawn(options: { file: number; args: string[]; env: string[]; fds: number[] }): { pid: number; status: Promise<{ code: number; signal: number }> }
  pidfdOpen(pid: number): number
  pidfdSendSignal(pidfd: number, signal: number): void
  /** Resolves when the process behind the pidfd has exited (any process, not only a child). */
  pidfdWait(pidfd: number): Promise<void>
  /** PR_SET_CHILD_SUBREAPER etc. */
  prctl(option: number, arg: number): void
  /** The effective, permitted and bounding sets of this process, as bit masks. */
  capabilities(): { effective: bigint; permitted: bigint; bounding: bigint }

  // -- cgroup and BPF ------------------------------------------------------------------------------------------
  /** BPF_PROG_LOAD of type CGROUP_DEVICE; returns the program's fd. */
  bpfLoadDevice(instructions: Uint8Array): number
  /** BPF_PROG_ATTACH of it to a cgroup directory's fd with BPF_F_ALLOW_MULTI (and BPF_F_REPLACE of `replace` when ≥ 0). */
  bpfAttachDevice(cgroupFd: number, programFd: number, replace: number): void
  bpfDetachDevice(cgroupFd: number, programFd: number): void
  /** BPF_PROG_QUERY + BPF_PROG_GET_FD_BY_ID: fds of the device programs attached to a cgroup. */
  bpfQueryDevice(cgroupFd: number): number[]
  /** poll(2) for POLLPRI on a cgroup events file, on its own thread, until it changes or the timeout ends (false). */
  pollPriority(fd: number, timeoutMs: number): Promise<boolean>

  // -- system ---------------------------------------------------------------------------------------------------
  sethostname(name: string): void
  getrlimit(resource: number): { soft: bigint; hard: bigint }
  /** SECCOMP_GET_ACTION_AVAIL: whether the kernel knows this action. */
  seccompActionAvailable(action: number): boolean
}

/** build/Release of the package, seen from dist/src/kernel/. */
export const NATIVE_DIRECTORY = new URL('../../../build/Release/', import.meta.url)

export const binding = createRequire(import.meta.url)(
  new URL('berth.node', NATIVE_DIRECTORY).pathname,
) as Binding
