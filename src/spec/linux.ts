/** Numbers of the kernel's interface that plans carry. Values of linux/mount.h, asm-generic/resource.h and linux/capability.h. */

/** Attributes of one mount, for fsmount(2) and mount_setattr(2). */
export const MOUNT_ATTR = {
  RDONLY: 0x00000001,
  NOSUID: 0x00000002,
  NODEV: 0x00000004,
  NOEXEC: 0x00000008,
  /** A field, not a bit: to change it, all of it is cleared and one of the next three set. */
  ATIME: 0x00000070,
  RELATIME: 0x00000000,
  NOATIME: 0x00000010,
  STRICTATIME: 0x00000020,
  NODIRATIME: 0x00000080,
  IDMAP: 0x00100000,
  NOSYMFOLLOW: 0x00200000,
} as const

/** mount(2) flags; of these only propagation and MS_REC are part of a plan. */
export const MS = {
  REC: 1 << 14,
  UNBINDABLE: 1 << 17,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
} as const

/** RLIMIT_* of getrlimit(2), by the names of the OCI runtime-spec. */
export const RLIMITS = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
} as const satisfies Record<string, number>

export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn

/** capabilities(7): the index is the number. */
export const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const

/** signal(7) for x86_64 and aarch64, which agree; realtime signals are SIGNAL_RTMIN to SIGNAL_RTMAX. */
export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGIOT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPOLL: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const satisfies Record<string, number>

/** As programs see SIGRTMIN: glibc and musl keep the kernel's first two or three for themselves; docker and CRI count from 34. */
export const SIGNAL_RTMIN = 34
export const SIGNAL_RTMAX = 64

/** The number of `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-2`; undefined where there is no such signal. */
export function signalNumber(text: string): number | undefined {
  if (/^\d{1,2}$/.test(text)) {
    const number = Number(text)
    return number >= 1 && number <= SIGNAL_RTMAX ? number : undefined
  }
  const upper = text.toUpperCase()
  const name = upper.startsWith('SIG') ? upper : `SIG${upper}`
  if (Object.hasOwn(SIGNALS, name)) return SIGNALS[name as keyof typeof SIGNALS]
  const match = /^SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name)
  if (!match) return
  const [, from, sign, distance = '0'] = match
  if (sign !== undefined && sign !== (from === 'MIN' ? '+' : '-')) return
  const number = from === 'MIN' ? SIGNAL_RTMIN + Number(distance) : SIGNAL_RTMAX - Number(distance)
  return number >= SIGNAL_RTMIN && number <= SIGNAL_RTMAX ? number : undefined
}

/** `SIGTERM` for 15, `SIGRTMIN+3` for 37. */
export function signalName(number: number): string {
  for (const [name, n] of Object.entries(SIGNALS)) if (n === number) return name
  if (number === SIGNAL_RTMIN) return 'SIGRTMIN'
  if (number > SIGNAL_RTMIN && number <= SIGNAL_RTMAX) return `SIGRTMIN+${number - SIGNAL_RTMIN}`
  return String(number)
}
