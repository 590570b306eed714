import type { Command } from 'commander'
import type { Context } from './context.ts'

/** Not for people: what a monitor runs after a container whose end needs more than itself. */
export function define(command: Command, context: Context): void {
  command
    .argument('<id>', 'a whole id')
    .option('--rm', 'remove it, too')
    .action(async (id: string, { rm }: { rm?: true }) => {
      const { api, engine } = await context.open(() => import('../engine/cleanup.ts'))
      await api.cleanupContainer(engine, id, { remove: rm === true })
    })
}
