import { writeFileSync } from 'node:fs'
import { Coverage } from './coverage.ts'
import { Chance, mutate } from './mutate.ts'
import type { Target } from './target.ts'

/** Inputs between two looks at the coverage, which cost as much as many of them. */
const BATCH = 128
/** One batch in so many is looked at input by input though it reached nothing new: how often code runs counts too, and only so is it seen. */
const CLOSELY = 64
const BYTES_MAX = 16 * 1024
const CORPUS_MAX = 4096
/** Of the processor, for one input: all that is read here is small. */
const SLOW_MS = 5_000

export interface Outcome {
  readonly inputs: number
  readonly corpus: number
  readonly blocks: number
  readonly failure: { readonly input: Buffer; readonly error: unknown } | undefined
}

/**
 * Runs a target with inputs of which those are kept, and changed further, that reach code which no other has reached (as AFL and libFuzzer do). `note` is a
 * file that always has the inputs at work, for whoever finds this process dead or hanging.
 */
export async function fuzz(
  load: () => Promise<Target>,
  options: { ms: number; seed: number; note: string },
): Promise<Outcome> {
  const coverage = new Coverage()
  const target = await load()
  const chance = new Chance(options.seed)
  const { words, bytesMax = BYTES_MAX, batch: size = BATCH } = target
  const changed = (input: Buffer): Buffer =>
    target.change?.(input, chance) ?? mutate(input, chance.of(corpus), { chance, words, bytesMax })
  const corpus: Buffer[] = []
  let inputs = 0
  let failure: Outcome['failure']
  const run = async (input: Buffer): Promise<void> => {
    inputs++
    const begin = process.cpuUsage()
    try {
      // A target may keep what it is given.
      const ran = target.run(Buffer.from(input))
      if (ran !== undefined) await ran
      const { user, system } = process.cpuUsage(begin)
      if (user + system > SLOW_MS * 1000) throw new Error(`it took more than ${SLOW_MS} ms`)
    } catch (error) {
      failure ??= { input, error }
    }
  }
  /** Runs all; keeps those that reach something new, which are looked for by halves: the coverage costs more than an input. */
  const tryAll = async (batch: readonly Buffer[]): Promise<void> => {
    for (const input of batch) await run(input)
    const [only, second] = batch
    if (failure !== undefined || only === undefined) return
    if (second === undefined) {
      if (coverage.learns()) corpus.push(only)
    } else if (coverage.reachesNew()) {
      await tryAll(batch.slice(0, batch.length >> 1))
      await tryAll(batch.slice(batch.length >> 1))
    }
  }
  for (const seed of target.seeds) await tryAll([seed])
  corpus.push(...target.seeds)
  const end = performance.now() + options.ms
  while (failure === undefined && performance.now() < end) {
    const batch = Array.from({ length: size }, () => changed(pick(corpus, chance)))
    writeFileSync(options.note, batch.map((input) => input.toString('base64')).join('\n'))
    if (chance.below(CLOSELY) > 0) await tryAll(batch)
    else for (const input of batch) await tryAll([input])
    if (corpus.length > CORPUS_MAX) corpus.splice(0, corpus.length - CORPUS_MAX)
  }
  return { inputs, corpus: corpus.length, blocks: coverage.size, failure }
}

/** What was found last is where nobody has looked yet. */
function pick(corpus: readonly Buffer[], chance: Chance): Buffer {
  const recent = Math.max(1, corpus.length >> 3)
  const at = chance.below(2) === 0 ? corpus.length - 1 - chance.below(recent) : undefined
  return (at === undefined ? undefined : corpus[at]) ?? chance.of(corpus)
}
