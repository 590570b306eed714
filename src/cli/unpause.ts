import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .addHelpText('after', examples('berth unpause web'))
    .action(async (names: string[]) => {
      const { api, engine } = await context.open(() => import('../engine/pause.ts'))
      await forEach(context, names, (name) => api.unpauseContainer(engine, name))
    })
}
