/**
 * One fuzz target in a process of its own; `scripts/fuzz.ts` starts it.
 *
 *   node dist/test/fuzz/run.js TARGET MS SEED NOTE     fuzzes for so long; exit code 1 and the input on stdout where one fails
 *   node dist/test/fuzz/run.js TARGET FILE             one input again
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { fuzz } from './loop.ts'
import { TARGETS } from './targets.ts'

const [name = '', ...rest] = process.argv.slice(2)
const load = TARGETS[name]
if (load === undefined) throw new Error(`no target ${name}: ${Object.keys(TARGETS).join(', ')}`)

const [ms, seed, note] = rest
if (ms !== undefined && seed !== undefined && note !== undefined) {
  const outcome = await fuzz(load, { ms: Number(ms), seed: Number(seed), note })
  const { inputs, corpus, blocks, failure } = outcome
  process.stdout.write(`${inputs} inputs, ${corpus} kept, ${blocks} blocks of code\n`)
  if (failure !== undefined) {
    writeFileSync(note, failure.input)
    process.stdout.write(`${inspect(failure.error)}\n`)
    process.exitCode = 1
  } else writeFileSync(note, '')
} else {
  await (await load()).run(readFileSync(rest[0] ?? ''))
}
