import { closeSync, constants, openSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'
import type { DeviceRule } from '../spec/runtime.ts'

/** A rule takes up to 14 instructions; the kernel verifies this many within some milliseconds. */
const RULES_MAX = 1024

// linux/bpf.h: struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor }, access_type = access << 16 | type.
const TYPE = { b: 1, c: 2 } as const
const ACCESS = { m: 1, r: 2, w: 4 } as const
const ALL_ACCESS = 7

// Registers: r0 the verdict, r1 the context, r2 the type, r3 the access bits still to be allowed, r4 major, r5 minor, r6 to compare in.
const R0 = 0
const R1 = 1
const R2 = 2
const R3 = 3
const R4 = 4
const R5 = 5
const R6 = 6

// Operations: class | operation | source, all on 32 bits where there is a choice.
const LOAD_WORD = 0x61
const SHIFT_RIGHT = 0x74
const AND = 0x54
const XOR = 0xa4
const MOVE = 0xb4
/** Added to an operation whose source is a register. */
const FROM_REGISTER = 0x08
const JUMP = 0x05
const JUMP_UNLESS_EQUAL = 0x56
const JUMP_IF_ANY_BIT = 0x46
const EXIT = 0x95

/** struct bpf_insn: u8 operation, u4 target, u4 source, s16 offset, s32 immediate; of this machine's byte order. */
function instruction(operation: number, target = 0, source = 0, offset = 0, immediate = 0): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt8(operation, 0)
  bytes.writeUInt8(target | (source << 4), 1)
  bytes.writeInt16LE(offset, 2)
  bytes.writeInt32LE(immediate | 0, 4)
  return bytes
}

const verdict = (allow: boolean): Buffer[] => [
  instruction(MOVE, R0, 0, 0, allow ? 1 : 0),
  instruction(EXIT),
]

/** Devices that every container may use: the runtime-spec's default devices, its pty, and making nodes of any kind. */
export const DEFAULT_DEVICE_RULES: readonly DeviceRule[] = [
  { allow: false, access: 'rwm' },
  // Making a node opens nothing: tar and dpkg in a container do it.
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[
    [1, 3],
    [1, 5],
    [1, 7],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 1],
    [5, 2],
  ].map(([major, minor]) => charDevice(major, minor)),
  // Terminals of the container's own devpts.
  charDevice(136, undefined),
]

function charDevice(major: number | undefined, minor: number | undefined): DeviceRule {
  return {
    allow: true,
    type: 'c',
    access: 'rwm',
    ...(major === undefined ? {} : { major }),
    ...(minor === undefined ? {} : { minor }),
  }
}

interface Match {
  readonly allow: boolean
  readonly type: number | undefined
  readonly major: number | undefined
  readonly minor: number | undefined
  readonly access: number
}

/**
 * The program (struct bpf_insn array) that decides as cgroup v1's device controller would after these rules were written in order: for each
 * of read, write and mknod the last rule that speaks of the device decides; what no rule speaks of is denied. INVALID_ARGUMENT for a rule
 * that is none.
 */
export function deviceProgram(rules: readonly DeviceRule[]): Buffer {
  if (rules.length > RULES_MAX) {
    throw new Fault('INVALID_ARGUMENT', `resources.devices: more than ${RULES_MAX} rules`)
  }
  const program: Buffer[] = [
    instruction(LOAD_WORD, R2, R1, 0),
    instruction(MOVE | FROM_REGISTER, R3, R2),
    instruction(AND, R2, 0, 0, 0xffff),
    instruction(SHIFT_RIGHT, R3, 0, 0, 16),
    instruction(LOAD_WORD, R4, R1, 4),
    instruction(LOAD_WORD, R5, R1, 8),
  ]
  for (const match of rules.map(checkRule).reverse()) {
    if (isTotal(match)) {
      // Everything is decided here: the verifier refuses code that is never reached.
      program.push(...verdict(match.allow))
      return Buffer.concat(program)
    }
    program.push(...ruleCode(match))
  }
  program.push(...verdict(false))
  return Buffer.concat(program)
}

/** Whether the rules allow everything, so that no program is needed. */
export function allowsAllDevices(rules: readonly DeviceRule[]): boolean {
  const last = rules.at(-1)
  return last?.allow === true && isTotal(checkRule(last, rules.length - 1))
}

function isTotal(match: Match): boolean {
  const { type, major, minor, access } = match
  return type === undefined && major === undefined && minor === undefined && access === ALL_ACCESS
}

/** Falls through to the code after it where the rule leaves something open. */
function ruleCode({ allow, type, major, minor, access }: Match): Buffer[] {
  const act = allow
    ? [
        instruction(AND, R3, 0, 0, ~access),
        instruction(JUMP_UNLESS_EQUAL, R3, 0, 2, 0),
        ...verdict(true),
      ]
    : [
        instruction(JUMP_IF_ANY_BIT, R3, 0, 1, access),
        instruction(JUMP, 0, 0, 2),
        ...verdict(false),
      ]
  const wanted: [number, number][] = []
  if (type !== undefined) wanted.push([R2, type])
  if (major !== undefined) wanted.push([R4, major])
  if (minor !== undefined) wanted.push([R5, minor])
  // Compared in a copy, by XOR: of a register that was compared itself the verifier would remember every value that it did
  // not have on every way, and its time would grow with the square of the rules.
  const tests = wanted.flatMap(([register, value], i) => [
    instruction(MOVE | FROM_REGISTER, R6, register),
    instruction(XOR, R6, 0, 0, value),
    instruction(JUMP_UNLESS_EQUAL, R6, 0, 3 * (wanted.length - 1 - i) + act.length, 0),
  ])
  return [...tests, ...act]
}

function checkRule(rule: DeviceRule, index: number): Match {
  const invalid = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `resources.devices[${index}]: ${reason}`)
  const { type = 'a', access = 'rwm' } = rule
  if (type !== 'a' && type !== 'b' && type !== 'c') {
    throw invalid(`type "${type}" is none of a, b and c`)
  }
  let bits = 0
  for (const letter of access) {
    if (letter !== 'r' && letter !== 'w' && letter !== 'm') {
      throw invalid(`access "${access}" has other letters than r, w and m`)
    }
    bits |= ACCESS[letter]
  }
  const number = (value: number | undefined, name: string): number | undefined => {
    // -1 is what some clients write for "any".
    if (value === undefined || value === -1) return undefined
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
      throw invalid(`${name} ${value} is no device number`)
    }
    return value
  }
  return {
    allow: rule.allow,
    type: type === 'a' ? undefined : TYPE[type],
    major: number(rule.major, 'major'),
    minor: number(rule.minor, 'minor'),
    access: bits,
  }
}

/**
 * Makes these rules the ones of a cgroup (by its directory), whatever it had. There is no moment without a program where there was one.
 */
export function applyDeviceRules(directory: string, rules: readonly DeviceRule[]): void {
  const allowsAll = allowsAllDevices(rules)
  const opened: number[] = []
  const own = (fd: number): number => {
    opened.push(fd)
    return fd
  }
  try {
    const cgroup = own(openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY))
    const before = binding.bpfQueryDevice(cgroup)
    opened.push(...before)
    const [only] = before
    if (allowsAll) {
      for (const old of before) binding.bpfDetachDevice(cgroup, old)
      return
    }
    if (before.length === 0) {
      binding.bpfAttachDevice(cgroup, sharedProgram(rules), -1)
      return
    }
    // One of its own: the kernel attaches no program twice to a cgroup.
    const loaded = own(loadDevice(deviceProgram(rules)))
    if (before.length === 1 && only !== undefined) {
      binding.bpfAttachDevice(cgroup, loaded, only)
      return
    }
    binding.bpfAttachDevice(cgroup, loaded, -1)
    for (const old of before) binding.bpfDetachDevice(cgroup, old)
  } catch (error) {
    if (isErrno(error, 'EPERM', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP')) {
      throw new Fault(
        'FAILED_PRECONDITION',
        'this kernel cannot limit access to devices: it needs CONFIG_CGROUP_BPF and CAP_BPF or CAP_SYS_ADMIN',
        { cause: error },
      )
    }
    throw error
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

/** Loaded programs by their rules, for new cgroups: most containers of a node have the same ones, and the verifier takes longer than all else. */
const loadedPrograms = new Map<string, Fd>()
const LOADED_MAX = 16

/** Open as long as this process lives, or until there are too many; a cgroup keeps the program that it has. */
function sharedProgram(rules: readonly DeviceRule[]): number {
  // A number that no device has comes as a bigint, and is refused below.
  const key = JSON.stringify(rules, (_key, value) =>
    typeof value === 'bigint' ? `${value}n` : value,
  )
  const known = loadedPrograms.get(key)
  if (known) return known.number
  const program = new Fd(loadDevice(deviceProgram(rules)))
  if (loadedPrograms.size >= LOADED_MAX) {
    for (const old of loadedPrograms.values()) old.close()
    loadedPrograms.clear()
  }
  loadedPrograms.set(key, program)
  return program.number
}

/** The verifier gives up with EAGAIN when a signal is pending (a profiler's, a child's end); libbpf tries as often. */
const LOAD_ATTEMPTS_MAX = 5

function loadDevice(program: Buffer): number {
  for (let attempt = 1; ; attempt++) {
    try {
      return binding.bpfLoadDevice(program)
    } catch (error) {
      if (!isErrno(error, 'EAGAIN') || attempt === LOAD_ATTEMPTS_MAX) throw error
    }
  }
}
