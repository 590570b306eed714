import type { Command } from 'commander'
import { untilGone } from '../kernel/caller.ts'
import { type Context, forEach } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .addHelpText('after', examples('berth wait job', 'test $(berth wait job) = 0'))
    .action(async (names: string[]) => {
      const { api, engine } = await context.open(() => import('../engine/stop.ts'))
      const gone = untilGone(context.caller)
      const waits = new Map(names.map((name) => [name, api.waitContainer(engine, name, gone)]))
      for (const wait of waits.values()) wait.catch(() => {})
      await forEach(context, names, async (name) => String((await waits.get(name))?.code))
    })
}
