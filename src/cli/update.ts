import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { UpdateOptions } from '../engine/types.ts'
import { type Context, forEach } from './context.ts'
import { examples, option, refuse } from './output.ts'
import { parseRestart } from './parse/limits.ts'
import { addLimitOptions, limitOptions } from './run-options.ts'

export function define(command: Command, context: Context): void {
  addLimitOptions(command)
    .argument('<container...>', 'names or ids')
    .addOption(
      option('--restart <policy>', 'no, always, unless-stopped, on-failure[:N]', parseRestart),
    )
    .addHelpText('after', examples('berth update --memory 512m --cpus 2 web'))
    .action(async (names: string[], given: Record<string, unknown>) => {
      const asked = Object.entries({
        ...limitOptions(given),
        restart: given['restart'] as UpdateOptions['restart'],
      }).filter(([, value]) => value !== undefined)
      if (asked.length === 0) {
        throw new Fault('INVALID_ARGUMENT', 'no limit to change is given, such as --memory 512m')
      }
      const { api, engine } = await context.open(() => import('../engine/update.ts'))
      const options: UpdateOptions = Object.fromEntries(asked)
      await forEach(context, names, (name) => api.updateContainer(engine, name, options))
    })
  refuse(command, {
    '--kernel-memory': 'cgroup v2 has no such limit',
    '--cpu-rt-period': 'cgroup v2 has no realtime limits',
    '--cpu-rt-runtime': 'cgroup v2 has no realtime limits',
  })
}
