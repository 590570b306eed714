import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'
import { examples, option } from './output.ts'
import { parseSignal } from './parse/namespace.ts'
import { parseInteger } from './parse/size.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .addOption(
      option(
        '-t, --time <seconds>',
        "KILL after so many; -1 waits (the container's, or 10)",
        parseInteger(-1, 1e9),
      ),
    )
    .addOption(option('--timeout <seconds>', 'the same', parseInteger(-1, 1e9)).hideHelp())
    .addOption(
      option('-s, --signal <signal>', "in place of the container's stop signal", parseSignal),
    )
    .addHelpText('after', examples('berth stop web', 'berth stop -t 0 web db'))
    .action(
      async (names: string[], given: { time?: number; timeout?: number; signal?: string }) => {
        const { api, engine } = await context.open(() => import('../engine/stop.ts'))
        const timeoutS = given.time ?? given.timeout
        const options = {
          ...(timeoutS === undefined ? {} : { timeoutS }),
          ...(given.signal === undefined ? {} : { signal: given.signal }),
        }
        // Each may take its whole time: together.
        const stops = new Map(names.map((name) => [name, api.stopContainer(engine, name, options)]))
        for (const stop of stops.values()) stop.catch(() => {})
        await forEach(context, names, async (name) => stops.get(name))
      },
    )
}
