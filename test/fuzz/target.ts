import { Fault } from '../../src/base/fault.ts'
import type { Chance } from './mutate.ts'

/** One edge of berth at which bytes of others come in. */
export interface Target {
  /** Throws only for what must not happen: a refusal is no failure. */
  run(input: Buffer): void | Promise<void>
  /** Good inputs, from which the others are made. */
  readonly seeds: readonly Buffer[]
  /** Words that the format knows. */
  readonly words: readonly string[]
  readonly bytesMax?: number
  /** Changes an input in a way that the format asks for; bytes are changed without it. */
  change?(input: Buffer, chance: Chance): Buffer
  /** Inputs between two looks at the coverage, where one input costs more than the look. */
  readonly batch?: number
}

/** What the work gives, or the code of the fault by which it refuses; any other error goes through. */
export function orFault<T>(work: () => T): { value: T } | { code: string } {
  try {
    return { value: work() }
  } catch (error) {
    if (error instanceof Fault) return { code: error.code }
    throw error
  }
}

export async function orFaultLater<T>(
  work: () => Promise<T>,
): Promise<{ value: T } | { code: string }> {
  try {
    return { value: await work() }
  } catch (error) {
    if (error instanceof Fault) return { code: error.code }
    throw error
  }
}

/** Both the same, whichever way the bytes came. */
export function same(a: unknown, b: unknown, what: string): void {
  const [one, other] = [a, b].map((value) =>
    JSON.stringify(value, (_, part: unknown) => {
      if (typeof part === 'bigint') return `${part}n`
      return part instanceof Map ? [...part] : part
    }),
  )
  if (one !== other) throw new Error(`${what}: ${one?.slice(0, 2000)} and ${other?.slice(0, 2000)}`)
}

export function claim(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(what)
}
