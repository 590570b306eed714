import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<volume...>', 'names')
    .option('-f, --force', 'one that is not there is no failure')
    .action(async (names: string[], { force }: { force?: true }) => {
      const { api, engine } = await context.open(() => import('../engine/volume.ts'))
      await forEach(context, names, (name) =>
        api.removeVolume(engine, name, { force: force === true }),
      )
    })
}
