import type { Command } from 'commander'
import type { Context } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .argument('<name>', 'the new name')
    .addHelpText('after', examples('berth rename web web-old'))
    .action(async (ref: string, name: string) => {
      const { api, engine } = await context.open(() => import('../engine/rename.ts'))
      await api.renameContainer(engine, ref, name)
    })
}
