import type { Command } from 'commander'
import type { createContainer } from '../engine/create.ts'
import type { Engine } from '../engine/open.ts'
import type { RunOptions } from '../engine/options.ts'
import type { ContainerRecord } from '../engine/types.ts'
import type { Context } from './context.ts'
import { examples } from './output.ts'
import { progressView } from './progress.ts'
import { addRunOptions, runOptions } from './run-options.ts'

export function define(command: Command, context: Context): void {
  addRunOptions(command, context)
    .argument('<image>', 'name or id of an image')
    .argument('[command...]', "in place of the image's")
    .option('-q, --quiet', 'no progress of a pull')
    .addHelpText('after', examples('berth create --name web -p 8080:80 nginx', 'berth start web'))
    .action(async (image: string, args: string[], given: Record<string, unknown>) => {
      const options = runOptions(image, args, given, context.caller)
      const { api, engine } = await context.open(() => import('../engine/create.ts'))
      const record = await make(api, engine, options, given['quiet'] === true)
      await context.print(`${record.id}\n`)
    })
}

/** Makes a container; shows how far a pull is that it needs. The engine writes --cidfile. */
export async function make(
  api: { createContainer: typeof createContainer },
  engine: Engine,
  options: RunOptions,
  quiet: boolean,
): Promise<ContainerRecord> {
  const view = progressView(quiet)
  try {
    return await api.createContainer(engine, options, view.report)
  } finally {
    view.finish()
  }
}
