import type { Comparison } from './constants.ts'

/** struct sock_filter. */
export interface Instruction {
  readonly code: number
  readonly jt: number
  readonly jf: number
  readonly k: number
}

/** A comparison of one 64-bit argument; `mask` is for SCMP_CMP_MASKED_EQ. */
export interface Condition {
  readonly index: number
  readonly op: Comparison
  readonly value: bigint
  readonly mask: bigint
}

/** What becomes of a call: a return value, or that of the first alternative whose conditions are all true. */
export type Decision =
  | number
  | {
      readonly alternatives: readonly {
        readonly conditions: readonly Condition[]
        readonly value: number
      }[]
      readonly fallback: number
    }

/** linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS and so on; comparisons are with the constant. */
const CODE = {
  load: 0x20,
  and: 0x54,
  jump: 0x05,
  equal: 0x15,
  greater: 0x25,
  greaterEqual: 0x35,
  return: 0x06,
}
/** Of struct seccomp_data. */
const OFFSET = { number: 0, architecture: 4, arguments: 16 }
/** What fits into jt and jf; a BPF_JA has 32 bits. */
const NEAR_MAX = 255

export const RET = (value: number): Instruction => ({
  code: CODE.return,
  jt: 0,
  jf: 0,
  k: value >>> 0,
})
const load = (offset: number): Instruction => ({ code: CODE.load, jt: 0, jf: 0, k: offset })

/** `if (A compares to k) yes else no`, where both branches end by themselves. Jumps only go forward, so `no` comes first. */
function branch(
  code: number,
  k: number,
  yes: readonly Instruction[],
  no: readonly Instruction[],
): Instruction[] {
  if (no.length <= NEAR_MAX) return [{ code, jt: no.length, jf: 0, k }, ...no, ...yes]
  return [{ code, jt: 0, jf: 1, k }, { code: CODE.jump, jt: 0, jf: 0, k: no.length }, ...no, ...yes]
}

/** Chooses the program of the call's architecture; `unknown` for any other. */
export function decide(
  programs: readonly { readonly audit: number; readonly code: readonly Instruction[] }[],
  unknown: Instruction,
): Instruction[] {
  // The native one comes first in the list and is asked for first.
  const chain = programs.reduceRight<Instruction[]>(
    (rest, { audit, code }) => branch(CODE.equal, audit, [load(OFFSET.number), ...code], rest),
    [unknown],
  )
  return [load(OFFSET.architecture), ...chain]
}

/** A balanced binary search over intervals, each from its start up to the next one's; the first starts at 0. */
export function search(
  intervals: readonly { readonly start: number; readonly decision: Decision }[],
): Instruction[] {
  const merged: { start: number; decision: Decision }[] = []
  for (const interval of intervals) {
    if (merged.at(-1)?.decision !== interval.decision) merged.push(interval)
  }
  const build = (from: number, to: number): Instruction[] => {
    const middle = (from + to + 1) >> 1
    const at = merged[middle]
    if (at === undefined) return []
    if (to === from) return leaf(at.decision)
    return branch(CODE.greaterEqual, at.start, build(middle, to), build(from, middle - 1))
  }
  return build(0, merged.length - 1)
}

function leaf(decision: Decision): Instruction[] {
  if (typeof decision === 'number') return [RET(decision)]
  const code = decision.alternatives.flatMap(alternative)
  return [...code, RET(decision.fallback)]
}

/** Code that returns the value when all conditions are true, and otherwise runs past its end. */
function alternative(rule: { conditions: readonly Condition[]; value: number }): Instruction[] {
  const blocks = rule.conditions.map(condition)
  const end = blocks.reduce((sum, block) => sum + block.length, 0) + 1
  const code: Instruction[] = []
  for (const block of blocks) {
    const passed = code.length + block.length
    for (const { code: op, k, yes, no } of block) {
      const here = code.length + 1
      const distance = (target: Target): number =>
        target === 'next' ? 0 : (target === 'true' ? passed : end) - here
      // Six conditions at most (one an argument), six instructions each: always near.
      code.push({ code: op, k, jt: distance(yes), jf: distance(no) })
    }
  }
  return [...code, RET(rule.value)]
}

/** Where a comparison leads: on, to the end of its condition (true), or out of the rule (false). */
type Target = 'next' | 'true' | 'false'
interface Step {
  readonly code: number
  readonly k: number
  readonly yes: Target
  readonly no: Target
}

/** A 64-bit comparison in two 32-bit halves, the high one first. */
function condition({ index, op, value, mask }: Condition): Step[] {
  const low = Number(value & 0xffff_ffffn)
  const high = Number(value >> 32n)
  const at = OFFSET.arguments + 8 * index
  const word = (offset: number): Step => ({
    code: CODE.load,
    k: at + offset,
    yes: 'next',
    no: 'next',
  })
  const and = (bits: bigint): Step => ({ code: CODE.and, k: Number(bits), yes: 'next', no: 'next' })
  const step = (code: number, k: number, yes: Target, no: Target): Step => ({ code, k, yes, no })
  // Both machines are little-endian.
  const [lowWord, highWord] = [word(0), word(4)]
  switch (op) {
    case 'SCMP_CMP_EQ':
      return [
        highWord,
        step(CODE.equal, high, 'next', 'false'),
        lowWord,
        step(CODE.equal, low, 'true', 'false'),
      ]
    case 'SCMP_CMP_MASKED_EQ':
      return [
        highWord,
        and(mask >> 32n),
        step(CODE.equal, high, 'next', 'false'),
        lowWord,
        and(mask & 0xffff_ffffn),
        step(CODE.equal, low, 'true', 'false'),
      ]
    case 'SCMP_CMP_NE':
      return [
        highWord,
        step(CODE.equal, high, 'next', 'true'),
        lowWord,
        step(CODE.equal, low, 'false', 'true'),
      ]
    case 'SCMP_CMP_GT':
    case 'SCMP_CMP_GE':
      return [
        highWord,
        step(CODE.greater, high, 'true', 'next'),
        step(CODE.equal, high, 'next', 'false'),
        lowWord,
        step(op === 'SCMP_CMP_GT' ? CODE.greater : CODE.greaterEqual, low, 'true', 'false'),
      ]
    case 'SCMP_CMP_LT':
    case 'SCMP_CMP_LE':
      return [
        highWord,
        step(CODE.greater, high, 'false', 'next'),
        step(CODE.equal, high, 'next', 'true'),
        lowWord,
        step(op === 'SCMP_CMP_LT' ? CODE.greaterEqual : CODE.greater, low, 'false', 'true'),
      ]
  }
}

/** The bytes of a struct sock_filter array: u16 code, u8 jt, u8 jf, u32 k. */
export function assemble(program: readonly Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(program.length * 8)
  for (const [i, { code, jt, jf, k }] of program.entries()) {
    bytes.writeUInt16LE(code, 8 * i)
    bytes.writeUInt8(jt, 8 * i + 2)
    bytes.writeUInt8(jf, 8 * i + 3)
    bytes.writeUInt32LE(k, 8 * i + 4)
  }
  return bytes
}
