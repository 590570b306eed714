import { Command } from 'commander'
import { addRunOptions, runOptions } from '../../src/cli/run-options.ts'
import { createContainer } from '../../src/engine/create.ts'
import { type Engine, openEngine } from '../../src/engine/open.ts'
import type { RunOptions } from '../../src/engine/options.ts'
import { startContainer } from '../../src/engine/start.ts'
import type { ContainerRecord } from '../../src/engine/types.ts'
import { ownCaller } from '../../src/kernel/caller.ts'
import type { Berth } from './berth.ts'

/** The engine of a test's berth in this process: a command's work without Node's start. What it warns of is collected. */
export function engineOf(berth: Berth, warnings: string[] = []): Engine {
  return openEngine({
    root: berth.root,
    state: berth.state,
    warn: (message) => warnings.push(message),
  })
}

/** The words after `berth create`, as the engine takes them. */
export function optionsOf(...words: string[]): RunOptions {
  let options: RunOptions | undefined
  addRunOptions(new Command().exitOverride(), { caller: ownCaller() })
    .argument('<image>')
    .argument('[command...]')
    .action((image: string, args: string[], given: Record<string, unknown>) => {
      options = runOptions(image, args, given, ownCaller())
    })
    .parse(words, { from: 'user' })
  if (!options) throw new Error('commander has not called the action')
  return options
}

/** `berth run -d` with these words. Not with --rm or a network: the monitor would run this process's program after the container. */
export async function runDetached(engine: Engine, ...words: string[]): Promise<ContainerRecord> {
  const record = await createContainer(engine, { ...optionsOf(...words), detach: true })
  await startContainer(engine, record.id)
  return record
}

/** Does `act` for every item, `width` at once. */
export async function atOnce<T>(
  items: readonly T[],
  width: number,
  act: (item: T) => Promise<unknown>,
): Promise<void> {
  const left = items.values()
  const worker = async (): Promise<void> => {
    for (const item of left) await act(item)
  }
  await Promise.all(Array.from({ length: width }, worker))
}
