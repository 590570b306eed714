import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Engine } from '../engine/open.ts'
import type { RunOptions } from '../engine/options.ts'
import type { startContainer } from '../engine/start.ts'
import type { Session } from '../engine/types.ts'
import { CallerGone } from '../kernel/caller.ts'
import type { Context } from './context.ts'
import { make } from './create.ts'
import { DETACH_KEYS, parseDetachKeys } from './detach-keys.ts'
import { foreground, proxySignals, terminalSize } from './foreground.ts'
import { examples, option } from './output.ts'
import { addRunOptions, runOptions } from './run-options.ts'

export function define(command: Command, context: Context): void {
  addRunOptions(command, context)
    .argument('<image>', 'name or id of an image')
    .argument('[command...]', "in place of the image's")
    .option('-d, --detach', 'leave it running, print its id')
    .option('-q, --quiet', 'no progress of a pull')
    .option('--no-sig-proxy', 'do not pass signals on to it')
    .addOption(
      option(
        '--detach-keys <keys>',
        `keys that leave it running (${DETACH_KEYS})`,
        parseDetachKeys,
      ),
    )
    .addHelpText(
      'after',
      `\nOptions come before the image; what comes after its name is the container's.${examples(
        'berth run --rm hello',
        'berth run --rm -it -v ./src:/src:ro -w /src debian bash',
        'berth run -d --name web -p 8080:80 --memory 256m --restart on-failure:3 nginx',
      )}
The exit code is that of the program; 125: berth failed, 126: the program cannot be executed, 127: there is none.`,
    )
    .action(async (image: string, args: string[], given: Record<string, unknown>) => {
      const options = runOptions(image, args, given, context.caller)
      checkTerminal(context, options)
      const { api, engine } = await context.open(async () => ({
        ...(await import('../engine/create.ts')),
        ...(await import('../engine/start.ts')),
      }))
      const record = await make(api, engine, options, given['quiet'] === true)
      if (options.detach) return detached(context, api, engine, record.id, options)
      const start = api.startContainer(engine, record.id, {
        stdin: options.interactive,
        ...terminalSize(context, options.terminal),
      })
      const keys = (given['detachKeys'] as number[] | undefined) ?? parseDetachKeys(DETACH_KEYS)
      const { interactive, terminal, remove } = options
      const how = { interactive, terminal, remove, detachKeys: keys }
      const signals = given['sigProxy'] !== false
      context.exit(await join(context, engine, record.id, start, { ...how, signals }))
    })
}

/** A program that wants a terminal would not show what it does through a pipe, and its input would end at once. */
export function checkTerminal(
  { stdio }: Context,
  options: { terminal: boolean; interactive: boolean; detach: boolean },
): void {
  const asks = options.terminal && options.interactive && !options.detach
  if (asks && !stdio.isTerminal('stdin')) {
    throw new Fault(
      'FAILED_PRECONDITION',
      'option --tty with --interactive: stdin is no terminal; leave --tty out to pipe something in',
    )
  }
}

async function detached(
  context: Context,
  api: { startContainer: typeof startContainer },
  engine: Engine,
  id: string,
  options: RunOptions,
): Promise<void> {
  try {
    await api.startContainer(engine, id)
  } catch (error) {
    if (options.remove) await removed(context, engine, id)
    throw error
  }
  await context.print(`${id}\n`)
}

/** What the caller, or a Node of his after the daemon's end, needs to know of a run in the foreground. */
export interface Joined {
  readonly interactive: boolean
  readonly terminal: boolean
  readonly remove: boolean
  readonly detachKeys: readonly number[]
  readonly signals: boolean
}

/** Is with the program until it ends, or we leave it; gives our exit code. `start` gives the session. */
export async function join(
  context: Context,
  engine: Engine,
  id: string,
  start: Promise<Session | undefined>,
  options: Joined,
): Promise<number> {
  // In a raw terminal the keys reach the program by themselves.
  const stopProxy = options.signals
    ? await proxySignals(context, start, async (signal) => {
        const { killContainer } = await import('../engine/stop.ts')
        await killContainer(engine, id, signal)
      })
    : () => {}
  let leftRunning = false
  try {
    const started = start.then((session) => {
      if (!session) throw new Fault('INTERNAL', `container ${id} was started without its stdio`)
      context.caller.instead(rejoinWords(engine, id, options))
      return session
    })
    const outcome = await foreground(context, started, {
      stdin: options.interactive,
      terminal: options.terminal,
      detachKeys: options.detachKeys,
    })
    if (outcome.kind === 'exit') return outcome.record.code
    context.caller.instead(undefined)
    if (outcome.kind === 'detached') {
      leftRunning = true
      return 0
    }
    // As a program in a pipeline ends when its reader does.
    const { stopContainer } = await import('../engine/stop.ts')
    await stopContainer(engine, id, {})
    return 141
  } catch (error) {
    // As a process that is killed: its container goes on.
    leftRunning = error instanceof CallerGone
    throw error
  } finally {
    stopProxy()
    if (options.remove && !leftRunning) await removed(context, engine, id)
  }
}

/** The command line of `berth container rejoin`. */
function rejoinWords({ root, state }: Engine, id: string, options: Joined): string[] {
  return [
    ...['--root', root, '--state', state, 'container', 'rejoin'],
    ...(options.remove ? ['--rm'] : []),
    ...(options.interactive ? ['--interactive'] : []),
    ...(options.terminal ? ['--tty'] : []),
    ...(options.signals ? [] : ['--no-sig-proxy']),
    ...['--detach-bytes', options.detachKeys.join(',')],
    id,
  ]
}

/** --rm. The exit code stays the program's whatever comes of it. */
export async function removed(context: Context, engine: Engine, id: string): Promise<void> {
  try {
    const { removeContainer } = await import('../engine/remove.ts')
    await removeContainer(engine, id, { force: true, volumes: true })
  } catch (error) {
    // The monitor's own --rm, or another berth, may have been quicker.
    if (error instanceof Fault && error.code === 'NOT_FOUND') return
    const { describe } = await import('../base/fault.ts')
    context.warn(describe(error))
  }
}
