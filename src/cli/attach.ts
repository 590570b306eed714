import type { Command } from 'commander'
import type { Context } from './context.ts'
import { DETACH_KEYS, parseDetachKeys } from './detach-keys.ts'
import { foreground, proxySignals } from './foreground.ts'
import { examples, option } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .option('--no-stdin', 'do not pass our stdin on')
    .option('--no-sig-proxy', 'do not pass signals on')
    .addOption(
      option(
        '--detach-keys <keys>',
        `keys that leave it running (${DETACH_KEYS})`,
        parseDetachKeys,
      ),
    )
    .addHelpText('after', examples('berth attach shell', 'berth attach --no-stdin web'))
    .action(
      async (name: string, given: { stdin: boolean; sigProxy: boolean; detachKeys?: number[] }) => {
        const { api, engine } = await context.open(async () => ({
          ...(await import('../engine/exec.ts')),
          ...(await import('../engine/find.ts')),
          ...(await import('../engine/stop.ts')),
        }))
        const { record } = await api.findContainer(engine, name)
        const stdin = given.stdin && record.options.interactive
        const session = api.attachContainer(engine, record.id, { stdin })
        const kill = (signal: string): Promise<void> => api.killContainer(engine, record.id, signal)
        const stopProxy = given.sigProxy ? await proxySignals(context, session, kill) : () => {}
        try {
          const outcome = await foreground(context, session, {
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
