import type { Comparison } from './constants.ts'

/** struct sock_filter. */
interface Instruction {
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

const ret = (value: number): Instruction => ({
  code: CODE.return,
  jt: 0,
  jf: 0,
  k: value >>> 0,
})
const load = (offset: number): Instruction => ({ code: CODE.load, jt: 0, jf: 0, k: offset })

/**
 * A program, written from its end to its start: jumps only go forward, so what they lead to is there before them. All code ends by itself.
 */
class Writer {
  readonly #backwards: Instruction[] = []

  get length(): number {
    return this.#backwards.length
  }

  write(...block: readonly Instruction[]): void {
    for (let i = block.length - 1; i >= 0; i--) {
      const instruction = block[i]
      if (instruction) this.#backwards.push(instruction)
    }
  }

  /** `if (A compares to k) yes else no`. */
  branch(code: number, k: number, yes: () => void, no: () => void): void {
    yes()
    const before = this.length
    no()
    const distance = this.length - before
    if (distance <= NEAR_MAX) this.write({ code, jt: distance, jf: 0, k })
    else this.write({ code, jt: 0, jf: 1, k }, { code: CODE.jump, jt: 0, jf: 0, k: distance })
  }

  /** The bytes of a struct sock_filter array: u16 code, u8 jt, u8 jf, u32 k. */
  assemble(): Uint8Array {
    // Whole words, as this is much of the time to make a filter; both machines are little-endian.
    const words = new Uint32Array(this.length * 2)
    let at = words.length
    for (const { code, jt, jf, k } of this.#backwards) {
      words[--at] = k
      words[--at] = code | (jt << 16) | (jf << 24)
    }
    return new Uint8Array(words.buffer)
  }
}

interface Interval {
  readonly start: number
  readonly decision: Decision
}

/** The filter: which architecture, the first of the list asked for first, then the decision for the call; `unknown` for any other. */
export function filterProgram(
  architectures: readonly { readonly audit: number; readonly intervals: readonly Interval[] }[],
  unknown: number,
): Uint8Array {
  const writer = new Writer()
  const choose = (from: number): void => {
    const architecture = architectures[from]
    if (!architecture) {
      writer.write(ret(unknown))
      return
    }
    const { audit, intervals } = architecture
    const number = (): void => {
      search(writer, intervals)
      writer.write(load(OFFSET.number))
    }
    writer.branch(CODE.equal, audit, number, () => choose(from + 1))
  }
  choose(0)
  writer.write(load(OFFSET.architecture))
  return writer.assemble()
}

/** A balanced binary search over intervals, each from its start up to the next one's; the first holds for all below it, too. */
function search(writer: Writer, intervals: readonly Interval[]): void {
  const merged: Interval[] = []
  for (const interval of intervals) {
    if (merged.at(-1)?.decision !== interval.decision) merged.push(interval)
  }
  const build = (from: number, to: number): void => {
    const middle = (from + to + 1) >> 1
    const at = merged[middle]
    if (at === undefined) return
    if (to === from) {
      leaf(writer, at.decision)
      return
    }
    const above = (): void => build(middle, to)
    writer.branch(CODE.greaterEqual, at.start, above, () => build(from, middle - 1))
  }
  build(0, merged.length - 1)
}

function leaf(writer: Writer, decision: Decision): void {
  if (typeof decision === 'number') writer.write(ret(decision))
  else writer.write(...decision.alternatives.flatMap(alternative), ret(decision.fallback))
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
  return [...code, ret(rule.value)]
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
