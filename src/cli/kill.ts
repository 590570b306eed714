import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'
import { examples, option } from './output.ts'
import { parseSignal } from './parse/namespace.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .addOption(option('-s, --signal <signal>', 'name or number (KILL)', parseSignal))
    .addHelpText('after', examples('berth kill web', 'berth kill -s HUP web'))
    .action(async (names: string[], given: { signal?: string }) => {
      const { api, engine } = await context.open(() => import('../engine/stop.ts'))
      await forEach(context, names, (name) =>
        api.killContainer(engine, name, given.signal ?? 'SIGKILL'),
      )
    })
}
