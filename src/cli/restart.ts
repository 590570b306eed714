import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'
import { examples, option } from './output.ts'
import { parseInteger } from './parse/size.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .addOption(
      option(
        '-t, --time <seconds>',
        "KILL after so many (the container's, or 10)",
        parseInteger(-1, 1e9),
      ),
    )
    .addHelpText('after', examples('berth restart web'))
    .action(async (names: string[], given: { time?: number }) => {
      const { api, engine } = await context.open(() => import('../engine/stop.ts'))
      const options = given.time === undefined ? {} : { timeoutS: given.time }
      await forEach(context, names, (name) => api.restartContainer(engine, name, options))
    })
}
