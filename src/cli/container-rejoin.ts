import type { Command } from 'commander'
import type { Context } from './context.ts'
import { type Joined, join, removed } from './run.ts'

interface Given {
  readonly rm?: true
  readonly interactive?: true
  readonly tty?: true
  readonly sigProxy: boolean
  readonly detachBytes: string
}

/** Not for people: with what native/front goes on after the daemon has ended that was with a run in the foreground. */
export function define(command: Command, context: Context): void {
  command
    .argument('<id>', 'a whole id')
    .option('--rm', 'remove it when it has ended')
    .option('--interactive', 'pass our stdin on')
    .option('--tty', 'it has a terminal')
    .option('--no-sig-proxy', 'do not pass signals on')
    .option('--detach-bytes <numbers>', 'keys that leave it running', '')
    .action(async (id: string, given: Given) => {
      const { api, engine } = await context.open(async () => ({
        ...(await import('../engine/exec.ts')),
        ...(await import('../engine/find.ts')),
        ...(await import('../engine/stop.ts')),
      }))
      const options: Joined = {
        interactive: given.interactive === true,
        terminal: given.tty === true,
        remove: given.rm === true,
        detachKeys: given.detachBytes.split(',').filter(Boolean).map(Number),
        signals: given.sigProxy,
      }
      const { status } = await api.findContainer(engine, id)
      if (status.state === 'running' || status.state === 'paused') {
        const session = api.attachContainer(engine, id, { stdin: options.interactive })
        context.exit(await join(context, engine, id, session, options))
        return
      }
      // What it wrote in between is in its log alone.
      context.exit((await api.waitContainer(engine, id)).code)
      if (options.remove) await removed(context, engine, id)
    })
}
