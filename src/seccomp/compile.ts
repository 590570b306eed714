import { Fault } from '../base/fault.ts'
import type { SeccompPlan } from '../spec/plan.ts'
import type { Seccomp, SeccompRule } from '../spec/runtime.ts'
import { type Condition, type Decision, filterProgram } from './bpf.ts'
import {
  COMPARISONS,
  type Comparison,
  type Entry,
  FLAGS,
  isKnownSyscall,
  MACHINES,
  MULTIPLEXED,
  NEW_LISTENER,
  RETURN,
  SECCOMP_ARCHITECTURES,
  syscallTable,
  TSYNC_ESRCH,
  X32_BIT,
} from './constants.ts'

const RULES_MAX = 4096
const NAMES_MAX = 4096
const ARGUMENTS_MAX = 64
/** BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4096
/** MAX_ERRNO: the kernel cuts larger ones to it. */
const ERRNO_MAX = 4095
const EPERM = 1
const ENOSYS = 38
/** Calls of 32-bit ARM outside the table, such as set_tls. */
const ARM_PRIVATE = 0x0f0000

export interface Compiled extends SeccompPlan {
  readonly warnings: readonly string[]
}

/** One of a section's rules, read once and used for every architecture. */
interface Rule {
  readonly names: readonly string[]
  readonly value: number
  readonly conditions: readonly Condition[]
}

/**
 * The filter of a section for a machine (`architecture` as Node names it). Several rules of one call: the first without conditions holds whatever the others
 * say, as in libseccomp; otherwise the first whose conditions are all true. Calls from an architecture that the section does not list end the process.
 */
export function compileSeccomp(section: Seccomp, architecture: string): Compiled {
  const machine = Object.hasOwn(MACHINES, architecture) ? MACHINES[architecture] : undefined
  if (!machine) {
    throw new Fault('UNIMPLEMENTED', `linux.seccomp is not supported on ${architecture}`)
  }
  const field = 'linux.seccomp.defaultAction'
  const notifies = checkNotify(section)
  const fallback = returnValue(field, section.defaultAction, section.defaultErrnoRet)
  const flags = flagBits(section.flags, notifies)
  const architectures = new Set(section.architectures ?? [])
  for (const name of architectures) {
    if (!SECCOMP_ARCHITECTURES.includes(name)) {
      throw invalid('architectures', `there is no architecture ${JSON.stringify(name)}`)
    }
  }
  const warnings: string[] = []
  const rules = readRules(section.syscalls ?? [], warnings)

  // A profile that forbids what it does not name was written before the newest calls: "not there" lets programs use what they used before, where EPERM or
  // death would break them.
  const strict = fallback !== RETURN.SCMP_ACT_ALLOW && fallback !== RETURN.SCMP_ACT_LOG
  const others = machine.others.filter((entry) => architectures.has(entry.name))
  const byAudit = new Map<number, { start: number; decision: Decision }[]>()
  for (const entry of [machine.native, ...others]) {
    const intervals = byAudit.get(entry.audit) ?? []
    byAudit.set(entry.audit, [...intervals, ...intervalsOf(entry, rules, fallback, strict)])
  }
  if (architecture === 'x64' && !architectures.has('SCMP_ARCH_X32')) {
    // Otherwise the bit would be a way around every rule. -1 is what a tracer leaves for "skip this call".
    byAudit.get(machine.native.audit)?.push(
      {
        start: X32_BIT,
        decision: strict ? RETURN.SCMP_ACT_ERRNO | ENOSYS : RETURN.SCMP_ACT_KILL_PROCESS,
      },
      { start: 0xffffffff, decision: strict ? RETURN.SCMP_ACT_ERRNO | ENOSYS : fallback },
    )
  }
  const parts = [...byAudit].map(([audit, intervals]) => ({ audit, intervals }))
  const program = filterProgram(parts, RETURN.SCMP_ACT_KILL_PROCESS)
  const instructions = program.length / 8
  if (instructions > INSTRUCTIONS_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `linux.seccomp needs ${instructions} instructions; the kernel takes ${INSTRUCTIONS_MAX}`,
    )
  }
  return { program, flags, warnings }
}

/** The decisions of one architecture: from each start up to the next. */
function intervalsOf(
  entry: Entry,
  rules: readonly Rule[],
  fallback: number,
  strict: boolean,
): { start: number; decision: Decision }[] {
  const table = syscallTable(entry.table)
  const base = entry.table === 'x32' ? X32_BIT : 0
  const bits = entry.narrow ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn
  const chosen = new Map<number, { conditions: readonly Condition[]; value: number }[]>()
  const add = (number: number, conditions: readonly Condition[], value: number): void => {
    const alternatives = chosen.get(number)
    if (!alternatives) chosen.set(number, [{ conditions, value }])
    // Nothing comes after a rule without conditions.
    else if (alternatives[0]?.conditions.length === 0) return
    else if (conditions.length === 0) chosen.set(number, [{ conditions, value }])
    else alternatives.push({ conditions, value })
  }
  /** The highest number that the section knows; -1 where it knows none. */
  let newest = -1
  for (const { names, value, conditions } of rules) {
    const narrowed = conditions.map((c) => ({ ...c, value: c.value & bits, mask: c.mask & bits }))
    for (const name of names) {
      const number = table.get(name) ?? -1
      if (number - base < ARM_PRIVATE) newest = Math.max(newest, number)
    }
    // What is the default anyway is no rule (and in libseccomp an error), but its names are known to the profile.
    if (value === fallback) continue
    for (const name of names) {
      const number = table.get(name)
      if (number !== undefined) add(number, narrowed, value)
      const inner =
        entry.table === 'x86' && Object.hasOwn(MULTIPLEXED, name) ? MULTIPLEXED[name] : undefined
      // The arguments themselves are behind a pointer there, which no filter can follow.
      if (inner === undefined || conditions.length > 0) continue
      const outer = table.get(inner[0])
      const condition = { index: 0, op: 'SCMP_CMP_EQ', value: BigInt(inner[1]), mask: 0n } as const
      if (outer !== undefined) add(outer, [condition], value)
    }
  }
  const beyond = strict && newest >= 0 ? RETURN.SCMP_ACT_ERRNO | ENOSYS : fallback
  const intervals: { start: number; decision: Decision }[] = []
  let next = base
  const fill = (end: number): void => {
    if (next <= newest && next < end) intervals.push({ start: next, decision: fallback })
    const after = Math.max(next, newest + 1)
    if (after < end) intervals.push({ start: after, decision: beyond })
  }
  for (const number of [...chosen.keys()].sort((a, b) => a - b)) {
    fill(number)
    intervals.push({ start: number, decision: decisionOf(chosen.get(number) ?? [], fallback) })
    next = number + 1
  }
  fill(Number.POSITIVE_INFINITY)
  return intervals
}

function decisionOf(
  alternatives: readonly { conditions: readonly Condition[]; value: number }[],
  fallback: number,
): Decision {
  const [first] = alternatives
  if (first?.conditions.length === 0) return first.value
  return { alternatives, fallback }
}

function readRules(syscalls: readonly SeccompRule[], warnings: string[]): Rule[] {
  if (!Array.isArray(syscalls) || syscalls.length > RULES_MAX) {
    throw invalid('syscalls', `is no list of at most ${RULES_MAX} rules`)
  }
  const rules: Rule[] = []
  const unknown = new Set<string>()
  for (const [i, rule] of syscalls.entries()) {
    const field = `syscalls[${i}]`
    const names: unknown = rule.names
    if (!Array.isArray(names) || names.length === 0 || names.length > NAMES_MAX) {
      throw invalid(`${field}.names`, `is no list of 1 to ${NAMES_MAX} names`)
    }
    const value = returnValue(`linux.seccomp.${field}.action`, rule.action, rule.errnoRet)
    const conditions = readConditions(field, rule.args)
    for (const name of rule.names) if (!isKnownSyscall(name)) unknown.add(String(name))
    const indexes = conditions.map((condition) => condition.index)
    if (new Set(indexes).size === indexes.length)
      rules.push({ names: rule.names, value, conditions })
    // A repeated index was never a conjunction: runc makes each condition a rule of its own, and profiles rely on it.
    else
      for (const condition of conditions)
        rules.push({ names: rule.names, value, conditions: [condition] })
  }
  if (unknown.size > 0) {
    const shown = [...unknown].slice(0, 8).map((name) => JSON.stringify(name.slice(0, 64)))
    warnings.push(
      `linux.seccomp.syscalls: ${unknown.size} unknown ${unknown.size === 1 ? 'name is' : 'names are'} ignored: ${shown.join(', ')}`,
    )
  }
  return rules
}

function readConditions(field: string, args: SeccompRule['args']): Condition[] {
  if (args === undefined || args === null) return []
  if (!Array.isArray(args) || args.length > ARGUMENTS_MAX) {
    throw invalid(`${field}.args`, `is no list of at most ${ARGUMENTS_MAX} conditions`)
  }
  return args.map(({ index, op, value, valueTwo }, i) => {
    const at = `${field}.args[${i}]`
    if (!Number.isInteger(index) || index < 0 || index > 5) {
      throw invalid(`${at}.index`, `${String(index)} is not from 0 to 5`)
    }
    const known = COMPARISONS.find((name) => name === op) as Comparison | undefined
    if (!known) throw invalid(`${at}.op`, `there is no comparison ${JSON.stringify(op)}`)
    const first = unsigned(`${at}.value`, value)
    if (known !== 'SCMP_CMP_MASKED_EQ') return { index, op: known, value: first, mask: 0n }
    return {
      index,
      op: known,
      mask: first,
      value: unsigned(`${at}.valueTwo`, valueTwo ?? 0) & first,
    }
  })
}

/** 64 bits without sign. JSON's doubles round the largest values up to 2^64. */
function unsigned(field: string, value: unknown): bigint {
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value))) {
    const whole = BigInt(value)
    if (whole >= 0n && whole < 1n << 64n) return whole
    if (typeof value === 'number' && whole === 1n << 64n) return whole - 1n
  }
  throw invalid(field, `${String(value)} is no whole number of 64 bits`)
}

function returnValue(field: string, action: string, errno: number | undefined): number {
  if (!Object.hasOwn(RETURN, action)) {
    throw new Fault('INVALID_ARGUMENT', `${field}: there is no action ${JSON.stringify(action)}`)
  }
  const value = RETURN[action as keyof typeof RETURN]
  const carries = value === RETURN.SCMP_ACT_ERRNO || value === RETURN.SCMP_ACT_TRACE
  if (!carries) {
    if (errno !== undefined && errno !== null) {
      throw new Fault('INVALID_ARGUMENT', `${field}: ${action} returns no errno`)
    }
    return value
  }
  const data = errno ?? EPERM
  const maximum = value === RETURN.SCMP_ACT_ERRNO ? ERRNO_MAX : 0xffff
  if (!Number.isInteger(data) || data < 0 || data > maximum) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${field}: the errno ${String(data)} is not from 0 to ${maximum}`,
    )
  }
  return value | data
}

/** Without a choice: no mitigation of speculative store bypass, which costs much and which kernels from 5.16 on leave out themselves (runc's default too). */
/** Calls between loading the filter and handing its listener on: nobody could answer them. */
const BEFORE_LISTENER = ['sendmsg', 'fstat', 'newfstatat', 'mmap']

/** Whether any rule asks SCMP_ACT_NOTIFY; then somebody must listen. */
function checkNotify({ defaultAction, listenerPath, syscalls }: Seccomp): boolean {
  if (defaultAction === 'SCMP_ACT_NOTIFY') {
    throw invalid(
      'defaultAction',
      'SCMP_ACT_NOTIFY: also the calls that hand the listener on would wait for it',
    )
  }
  // Of another shape they are refused where they are read.
  const given = Array.isArray(syscalls) ? syscalls : []
  const rules = given.filter((rule) => rule?.action === 'SCMP_ACT_NOTIFY')
  if (rules.length === 0) return false
  const early = BEFORE_LISTENER.find((name) => rules.some(({ names }) => names?.includes(name)))
  if (early !== undefined) {
    throw invalid('syscalls', `SCMP_ACT_NOTIFY of ${early} would wait for itself`)
  }
  if (!listenerPath) throw invalid('listenerPath', 'is missing: rules ask for SCMP_ACT_NOTIFY')
  return true
}

function flagBits(flags: readonly string[] | undefined, notifies: boolean): number {
  let bits = notifies ? NEW_LISTENER : 0
  if (flags === undefined || flags === null) return bits | FLAGS.SECCOMP_FILTER_FLAG_SPEC_ALLOW
  for (const flag of flags) {
    if (!Object.hasOwn(FLAGS, flag))
      throw invalid('flags', `there is no flag ${JSON.stringify(flag)}`)
    // The kernel takes it only with a listener, of which there is none without SCMP_ACT_NOTIFY.
    if (flag === 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV' && !notifies) {
      throw invalid('flags', `${flag} needs a rule with SCMP_ACT_NOTIFY`)
    }
    bits |= FLAGS[flag as keyof typeof FLAGS]
  }
  if (notifies && bits & FLAGS.SECCOMP_FILTER_FLAG_TSYNC) bits |= TSYNC_ESRCH
  return bits
}

function invalid(field: string, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `linux.seccomp.${field}: ${reason}`)
}
