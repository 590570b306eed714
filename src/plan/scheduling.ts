import type { ProcessPlan } from '../spec/plan.ts'
import type { Linux, Process } from '../spec/runtime.ts'
import { integer, invalid, list, show, text, unfit, unsupported } from './check.ts'

/** linux/sched.h, by the names of the runtime-spec. */
const POLICIES = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
} as const
const SCHEDULER_FLAGS = {
  SCHED_FLAG_RESET_ON_FORK: 0x01,
  SCHED_FLAG_RECLAIM: 0x02,
  SCHED_FLAG_DL_OVERRUN: 0x04,
  SCHED_FLAG_KEEP_POLICY: 0x08,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
} as const
/** SCHED_ATTR_SIZE_VER0: without the utilization clamps, for which the runtime-spec has no values. */
const SCHED_ATTR_BYTES = 48

/** linux/ioprio.h; the class is above 13 bits of priority. */
const IO_CLASSES = { IOPRIO_CLASS_RT: 1, IOPRIO_CLASS_BE: 2, IOPRIO_CLASS_IDLE: 3 } as const
const IO_CLASS_SHIFT = 13

/** linux/personality.h. */
const DOMAINS = { LINUX: 0, LINUX32: 8 } as const

/** linux/mempolicy.h. */
const MEMORY_MODES = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
} as const
const MEMORY_FLAGS = {
  MPOL_F_STATIC_NODES: 1 << 15,
  MPOL_F_RELATIVE_NODES: 1 << 14,
  MPOL_F_NUMA_BALANCING: 1 << 13,
} as const
/** The most nodes and processors that a kernel can be built for (MAX_NUMNODES, NR_CPUS of x86). */
const NODES_MAX = 1024
const CPUS_MAX = 8192

export const MEMORY_POLICY_MODES: readonly string[] = Object.keys(MEMORY_MODES)
export const MEMORY_POLICY_FLAGS: readonly string[] = Object.keys(MEMORY_FLAGS)

type Scheduling = Pick<ProcessPlan, 'scheduler' | 'ioPriority' | 'personality' | 'memoryPolicy'>

/** What decides when and where a process runs. */
export function planScheduling(process: Process, linux: Linux | undefined): Scheduling {
  const { scheduler, ioPriority } = process
  const { personality, memoryPolicy } = linux ?? {}
  return {
    ...(scheduler ? { scheduler: planScheduler(scheduler) } : {}),
    ...(ioPriority ? { ioPriority: planIoPriority(ioPriority) } : {}),
    ...(personality ? { personality: planPersonality(personality) } : {}),
    ...(memoryPolicy ? { memoryPolicy: planMemoryPolicy(memoryPolicy) } : {}),
  }
}

function planScheduler(given: NonNullable<Process['scheduler']>): Uint8Array {
  const field = 'process.scheduler'
  const policy = named(`${field}.policy`, POLICIES, given.policy)
  const { runtime = 0, deadline = 0, period = 0, priority = 0, nice = 0 } = given
  const isDeadline = policy === POLICIES.SCHED_DEADLINE
  if (!isDeadline && (runtime !== 0 || deadline !== 0 || period !== 0)) {
    throw invalid(field, 'runtime, deadline and period are of SCHED_DEADLINE only')
  }
  const isRealtime = policy === POLICIES.SCHED_FIFO || policy === POLICIES.SCHED_RR
  if (!isRealtime && priority !== 0) {
    throw invalid(`${field}.priority`, 'is of SCHED_FIFO and SCHED_RR only')
  }
  const attributes = Buffer.alloc(SCHED_ATTR_BYTES)
  attributes.writeUInt32LE(SCHED_ATTR_BYTES, 0)
  attributes.writeUInt32LE(policy, 4)
  attributes.writeBigUInt64LE(BigInt(bits(`${field}.flags`, SCHEDULER_FLAGS, given.flags)), 8)
  attributes.writeInt32LE(integer(`${field}.nice`, nice, -20, 19), 16)
  attributes.writeUInt32LE(integer(`${field}.priority`, priority, 0, 99), 20)
  const ns = (name: string, value: number): bigint =>
    BigInt(integer(`${field}.${name}`, value, 0, Number.MAX_SAFE_INTEGER))
  attributes.writeBigUInt64LE(ns('runtime', runtime), 24)
  attributes.writeBigUInt64LE(ns('deadline', deadline), 32)
  attributes.writeBigUInt64LE(ns('period', period), 40)
  return attributes
}

function planIoPriority(given: NonNullable<Process['ioPriority']>): number {
  const group = named('process.ioPriority.class', IO_CLASSES, given.class)
  const priority = integer('process.ioPriority.priority', given.priority ?? 0, 0, 7)
  return (group << IO_CLASS_SHIFT) | priority
}

function planPersonality(given: NonNullable<Linux['personality']>): number {
  // The runtime-spec has the list and no name in it.
  if ((given.flags ?? []).length > 0) throw unsupported('linux.personality.flags')
  return named('linux.personality.domain', DOMAINS, given.domain)
}

function planMemoryPolicy(
  given: NonNullable<Linux['memoryPolicy']>,
): NonNullable<ProcessPlan['memoryPolicy']> {
  const field = 'linux.memoryPolicy'
  const mode = named(`${field}.mode`, MEMORY_MODES, given.mode)
  const flags = bits(`${field}.flags`, MEMORY_FLAGS, given.flags)
  return { mode: mode | flags, nodes: mask(`${field}.nodes`, given.nodes ?? '', NODES_MAX) }
}

/** The first process has no part in it: its affinity is that of its cgroup, and of its caller. */
export function planAffinity(
  given: Process['execCPUAffinity'],
  isFurther: boolean,
): Pick<ProcessPlan, 'initialCpus' | 'finalCpus'> {
  const cpus = (name: 'initial' | 'final'): Uint8Array | undefined => {
    const list = given?.[name]
    if (list === undefined || list === null) return undefined
    const field = `process.execCPUAffinity.${name}`
    const bits = mask(field, list, CPUS_MAX)
    if (bits.length === 0) throw invalid(field, 'names no processor')
    return isFurther ? bits : undefined
  }
  const [initialCpus, finalCpus] = [cpus('initial'), cpus('final')]
  return { ...(initialCpus ? { initialCpus } : {}), ...(finalCpus ? { finalCpus } : {}) }
}

/** `0-3,7`, as a bit for each; nothing at all for none. */
function mask(field: string, given: string, max: number): Uint8Array {
  const words = text(field, given, 4096).split(',')
  const mask = new Uint8Array(max / 8)
  let last = -1
  for (const word of given === '' ? [] : words) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(word.trim())
    const from = Number(match?.[1] ?? Number.NaN)
    const to = Number(match?.[2] ?? from)
    if (!(from <= to && to < max)) throw invalid(field, `${show(word)} is no range below ${max}`)
    for (let node = from; node <= to; node++) {
      mask[node >> 3] = (mask[node >> 3] ?? 0) | (1 << (node & 7))
    }
    last = Math.max(last, to)
  }
  return mask.subarray(0, Math.ceil((last + 1) / 64) * 8)
}

function named<T extends Record<string, number>>(field: string, names: T, name: unknown): number {
  const value = typeof name === 'string' && Object.hasOwn(names, name) ? names[name] : undefined
  if (value === undefined) throw unfit(field, name, `is none of ${Object.keys(names).join(', ')}`)
  return value
}

function bits<T extends Record<string, number>>(
  field: string,
  names: T,
  given: readonly string[] | undefined,
): number {
  return list(field, given, 64).reduce(
    (sum, name, i) => sum | named(`${field}[${i}]`, names, name),
    0,
  )
}
