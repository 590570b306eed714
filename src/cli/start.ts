import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import { type Context, forEach } from './context.ts'
import { DETACH_KEYS, parseDetachKeys } from './detach-keys.ts'
import { foreground, proxySignals, terminalSize } from './foreground.ts'
import { examples, option } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container...>', 'names or ids')
    .option('-a, --attach', 'show its output, pass signals on, end with its exit code')
    .option('-i, --interactive', 'pass our stdin on, too')
    .addOption(
      option(
        '--detach-keys <keys>',
        `keys that leave it running (${DETACH_KEYS})`,
        parseDetachKeys,
      ),
    )
    .addHelpText('after', examples('berth start web', 'berth start -ai shell'))
    .action(
      async (
        names: string[],
        given: { attach?: true; interactive?: true; detachKeys?: number[] },
      ) => {
        const { api, engine } = await context.open(async () => ({
          ...(await import('../engine/find.ts')),
          ...(await import('../engine/start.ts')),
          ...(await import('../engine/stop.ts')),
        }))
        if (!given.attach && !given.interactive) {
          return forEach(context, names, async (name) => {
            await api.startContainer(engine, name)
          })
        }
        const [name = ''] = names
        if (names.length > 1) {
          throw new Fault(
            'INVALID_ARGUMENT',
            'options --attach and --interactive take one container',
          )
        }
        const { record } = await api.findContainer(engine, name)
        const stdin = given.interactive === true && record.options.interactive
        const size = terminalSize(context, record.options.terminal)
        const start = api.startContainer(engine, record.id, { stdin, ...size })
        const kill = (signal: string): Promise<void> => api.killContainer(engine, record.id, signal)
        const stopProxy = await proxySignals(context, start, kill)
        try {
          const started = start.then((session) => {
            if (!session) throw new Fault('INTERNAL', `${name} was started without its stdio`)
            return session
          })
          const outcome = await foreground(context, started, {
            stdin,
            terminal: record.options.terminal,
            detachKeys: given.detachKeys ?? parseDetachKeys(DETACH_KEYS),
          })
          if (outcome.kind === 'exit') context.exit(outcome.record.code)
          if (outcome.kind === 'readerGone') context.exit(141)
        } finally {
          stopProxy()
        }
      },
    )
}
