import { SYSCALLS } from './syscalls.ts'

/** linux/seccomp.h: what a filter returns, by the names of the runtime-spec; the low 16 bits are for data. */
export const RETURN = {
  SCMP_ACT_KILL: 0x00000000,
  SCMP_ACT_KILL_THREAD: 0x00000000,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: 0x00050000,
  SCMP_ACT_NOTIFY: 0x7fc00000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
} as const

export const SECCOMP_ACTIONS: readonly string[] = Object.keys(RETURN)

/** SECCOMP_FILTER_FLAG_* bits. */
export const FLAGS = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
} as const

/** Makes loading the filter give the descriptor at which the calls are answered; and what TSYNC needs beside it. Ours, not the configuration's. */
export const NEW_LISTENER = 8
export const TSYNC_ESRCH = 16

export const SECCOMP_FLAGS: readonly string[] = Object.keys(FLAGS)

export const COMPARISONS = [
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
] as const

export type Comparison = (typeof COMPARISONS)[number]

/** Every architecture that the runtime-spec names. */
export const SECCOMP_ARCHITECTURES: readonly string[] = (
  'X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC PARISC64 RISCV64 ' +
  'LOONGARCH64 M68K SH SHEB'
)
  .split(' ')
  .map((name) => `SCMP_ARCH_${name}`)

/** Marks the number of an x32 call; the architecture that the kernel reports for it is x86_64. */
export const X32_BIT = 0x40000000

/** A way into the kernel: an AUDIT_ARCH_* value and the table of its calls. */
export interface Entry {
  readonly name: string
  readonly audit: number
  readonly table: keyof typeof SYSCALLS
  /** Arguments are 32 bits wide. */
  readonly narrow: boolean
}

interface Machine {
  readonly native: Entry
  readonly others: readonly Entry[]
}

/** By Node's names: the ways into the kernel of a machine. Others cannot happen there, whatever a profile lists. */
export const MACHINES: Readonly<Record<string, Machine>> = {
  x64: {
    native: { name: 'SCMP_ARCH_X86_64', audit: 0xc000003e, table: 'x86_64', narrow: false },
    others: [
      { name: 'SCMP_ARCH_X86', audit: 0x40000003, table: 'x86', narrow: true },
      { name: 'SCMP_ARCH_X32', audit: 0xc000003e, table: 'x32', narrow: false },
    ],
  },
  arm64: {
    native: { name: 'SCMP_ARCH_AARCH64', audit: 0xc00000b7, table: 'aarch64', narrow: false },
    others: [{ name: 'SCMP_ARCH_ARM', audit: 0x40000028, table: 'arm', narrow: true }],
  },
}

const parsed = new Map<string, ReadonlyMap<string, number>>()

/** Numbers by name; for x32 with its bit. */
export function syscallTable(name: keyof typeof SYSCALLS): ReadonlyMap<string, number> {
  const known = parsed.get(name)
  if (known) return known
  const table = new Map<string, number>()
  let number = 0
  for (const word of SYSCALLS[name].trim().split(/\s+/)) {
    if (/^\d/.test(word)) number = Number(word)
    else table.set(word, name === 'x32' ? X32_BIT + number++ : number++)
  }
  parsed.set(name, table)
  return table
}

/** Whether some architecture has a call of this name; those of machines that berth does not run on, by their prefix. */
export function isKnownSyscall(name: string): boolean {
  if (/^(riscv_|s390_|spu_|ppc_|mips_|sh_|parisc_)/.test(name) || FOREIGN.has(name)) return true
  const tables = Object.keys(SYSCALLS) as (keyof typeof SYSCALLS)[]
  return tables.some((table) => syscallTable(table).has(name))
}

const FOREIGN = new Set([
  'swapcontext',
  'cachectl',
  'sysmips',
  'subpage_prot',
  'rtas',
  'switch_endian',
  'multiplexer',
  'atomic_barrier',
  'atomic_cmpxchg_32',
])

/**
 * socketcall(2) and ipc(2) of 32-bit x86 carry these as their first argument (linux/net.h, linux/ipc.h): a rule for the call must hold for that way
 * to it as well.
 */
export const MULTIPLEXED: Readonly<Record<string, readonly [call: string, number: number]>> =
  Object.fromEntries([
    ...words(
      'socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt getsockopt sendmsg ' +
        'recvmsg accept4 recvmmsg sendmmsg',
    ).map((name, i) => [name, ['socketcall', i + 1]]),
    ...Object.entries({
      semop: 1,
      semget: 2,
      semctl: 3,
      semtimedop: 4,
      msgsnd: 11,
      msgrcv: 12,
      msgget: 13,
      msgctl: 14,
      shmat: 21,
      shmdt: 22,
      shmget: 23,
      shmctl: 24,
    }).map(([name, number]) => [name, ['ipc', number]]),
  ])

export function words(text: string): string[] {
  return text.trim().split(/\s+/)
}
