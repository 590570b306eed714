import type { Command } from 'commander'
import type { Context } from './context.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { clean } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .addOption(formatOption())
    .addHelpText('after', `\nA: added, C: changed, D: deleted.${examples('berth diff web')}`)
    .action(async (name: string, { format }: { format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/diff.ts'))
      const changes = await api.diffContainer(engine, name)
      if (format === 'json') return printJson(context, changes)
      await context.print(changes.map(({ kind, path }) => `${kind} ${clean(path)}\n`).join(''))
    })
}
