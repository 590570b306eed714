import type { Seccomp, SeccompRule } from '../spec/runtime.ts'
import { MACHINES, words } from './constants.ts'
import type { ProfileContext } from './profile.ts'

const EPERM = 1
const ENOSYS = 38

/**
 * What every container may call, by what it is for. The same set as docker's default profile of 2026: images are tested with that one. Not in here: what reaches past the
 * container's namespaces, what makes new ones, the keyring (which no namespace divides), io_uring (whose work no filter sees), and calls that nobody
 * should need any more.
 */
const ALLOWED: Readonly<Record<string, string>> = {
  files: `
    access faccessat faccessat2 open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
    lseek _llseek truncate truncate64 ftruncate ftruncate64 fallocate readahead fadvise64 fadvise64_64 copy_file_range sendfile sendfile64 splice tee
    vmsplice sync syncfs fsync fdatasync sync_file_range dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2 memfd_create memfd_secret cachestat`,
  names: `
    chdir fchdir getcwd mkdir mkdirat rmdir link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 readlink readlinkat getdents
    getdents64 mknod mknodat umask name_to_handle_at`,
  attributes: `
    stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 chmod fchmod fchmodat fchmodat2 chown chown32
    fchown fchown32 fchownat lchown lchown32 utime utimes futimesat utimensat utimensat_time64 getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr
    fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat`,
  'what is mounted here, and watching it': `
    statmount listmount fanotify_mark inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`,
  waiting: `
    poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
    epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64`,
  memory: `
    brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall remap_file_pages membarrier mseal
    map_shadow_stack pkey_alloc pkey_free pkey_mprotect process_mrelease`,
  processes: `
    fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid getsid setsid kill tkill tgkill
    pidfd_open pidfd_send_signal prctl seccomp rseq set_tid_address get_thread_area set_thread_area restart_syscall uretprobe riscv_hwprobe`,
  identity: `
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 setuid setuid32
    setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups
    setgroups32 capget capset landlock_create_ruleset landlock_add_rule landlock_restrict_self`,
  signals: `
    pause sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo`,
  'scheduling and limits': `
    getpriority setpriority ioprio_get ioprio_set getcpu sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
    sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
    getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname getrandom`,
  // Setting the clock needs CAP_SYS_TIME as well, and reading it through adjtimex does not.
  time: `
    time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64 clock_adjtime clock_adjtime64
    adjtimex nanosleep alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64`,
  threads: `
    futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue get_robust_list set_robust_list`,
  sockets: `
    socketcall socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom
    recvmsg recvmmsg recvmmsg_time64 shutdown`,
  'System V and POSIX ipc': `
    ipc semget semop semctl semtimedop semtimedop_time64 shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_notify mq_getsetattr
    mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64`,
  // Harmless to others since Linux 4.8, where a tracer can no longer get around the filter.
  tracing: 'ptrace process_vm_readv process_vm_writev',
}

/** By Node's names of architectures. */
const BY_ARCHITECTURE: Readonly<Record<string, string>> = {
  x64: 'arch_prctl modify_ldt',
  arm64: 'arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls',
}

/** What the kernel grants to the holder of a capability, the filter does not take away. */
const BY_CAPABILITY: Readonly<Record<string, string>> = {
  CAP_BPF: 'bpf',
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_PERFMON: 'perf_event_open',
  CAP_SYSLOG: 'syslog',
  CAP_SYS_ADMIN: `
    bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount
    mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module init_module finit_module',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise',
  CAP_SYS_RAWIO: 'iopl ioperm',
  CAP_SYS_TIME: 'settimeofday stime clock_settime clock_settime64',
  CAP_SYS_TTY_CONFIG: 'vhangup',
}

/** CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET. */
const NEW_NAMESPACES = 0x7e020000
/** Address families: AF_VSOCK reaches the hypervisor past every network namespace; AF_ALG is kernel crypto code that few need and many bugs were in. */
const AF_ALG = 38
const AF_VSOCK = 40
/** personality(2): PER_LINUX, PER_LINUX32, both with UNAME26, and asking for the current one. The rest turns protections off. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]

/** The section for a container that asks for no filter of its own. It depends on the bounding capabilities, as docker's does. */
export function defaultSeccomp(
  context: Pick<ProfileContext, 'capabilities' | 'architecture'>,
): Seccomp {
  const { capabilities, architecture } = context
  const machine = MACHINES[architecture]
  const allow = (names: string[], ...args: NonNullable<SeccompRule['args']>): SeccompRule => ({
    names,
    action: 'SCMP_ACT_ALLOW',
    ...(args.length > 0 ? { args } : {}),
  })
  const names = [
    ...Object.values(ALLOWED),
    BY_ARCHITECTURE[architecture] ?? '',
    ...capabilities.map((name) => (Object.hasOwn(BY_CAPABILITY, name) ? BY_CAPABILITY[name] : '')),
  ].flatMap((text) => (text ? words(text) : []))
  const syscalls: SeccompRule[] = [
    allow([...new Set(names)]),
    allow(['socket'], { index: 0, op: 'SCMP_CMP_LT', value: AF_ALG }),
    allow(['socket'], { index: 0, op: 'SCMP_CMP_EQ', value: AF_ALG + 1 }),
    allow(['socket'], { index: 0, op: 'SCMP_CMP_GT', value: AF_VSOCK }),
    ...PERSONALITIES.map((value) => allow(['personality'], { index: 0, op: 'SCMP_CMP_EQ', value })),
  ]
  if (!capabilities.includes('CAP_SYS_ADMIN')) {
    syscalls.push(
      allow(['clone'], { index: 0, op: 'SCMP_CMP_MASKED_EQ', value: NEW_NAMESPACES, valueTwo: 0 }),
      // Its flags are behind a pointer; libc falls back to clone at ENOSYS.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    )
  }
  const section: Seccomp = { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: EPERM, syscalls }
  if (machine)
    section.architectures = [machine.native, ...machine.others].map((entry) => entry.name)
  return section
}
