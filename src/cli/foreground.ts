import { constants } from 'node:os'
import { isErrno } from '../base/fault.ts'
import type { ProcessExit, Session } from '../engine/types.ts'
import { CallerGone } from '../kernel/caller.ts'
import type { Input, TerminalSize } from '../kernel/stdio.ts'
import { signalName } from '../spec/linux.ts'
import type { Context } from './context.ts'
import { DetachFilter } from './detach-keys.ts'

/** How a session ended for us. */
export type Outcome =
  | { readonly kind: 'exit'; readonly record: ProcessExit }
  /** The detach keys were typed: the program goes on. */
  | { readonly kind: 'detached' }
  /** Nobody reads our stdout any more: the program goes on, and would wait for a reader. */
  | { readonly kind: 'readerGone' }

export interface ForegroundOptions {
  readonly stdin: boolean
  readonly terminal: boolean
  readonly detachKeys: readonly number[]
}

/** Rows and columns of the caller's terminal, for a program with one; 0 where there is none. */
export function terminalSize({ stdio }: Context, terminal = true): TerminalSize {
  return terminal ? stdio.size() : { rows: 0, columns: 0 }
}

/**
 * Joins a program's stdio with the caller's until it ends, or he leaves. With a terminal on both sides his is raw meanwhile: every key is
 * the program's, those included that he presses while `start` goes on. Rejects with CallerGone, and as `start` does.
 */
export async function foreground(
  context: Context,
  start: Promise<Session>,
  options: ForegroundOptions,
): Promise<Outcome> {
  const { stdio } = context
  const raw = options.terminal && options.stdin && stdio.isTerminal('stdin')
  const cooked = raw ? stdio.raw() : () => {}
  try {
    return await joined(context, await start, options, raw)
  } finally {
    cooked()
  }
}

async function joined(
  context: Context,
  session: Session,
  options: ForegroundOptions,
  raw: boolean,
): Promise<Outcome> {
  const { stdio } = context
  const input = options.stdin ? stdio.input() : undefined
  let leave: (outcome: Outcome) => void = () => {}
  const left = new Promise<Outcome>((resolve) => {
    leave = resolve
  })
  const resized = (): void => {
    const { rows, columns } = stdio.size()
    session.resize(rows, columns)
  }
  // Its failure is told by the race below; until then it must not count as unhandled.
  session.exit.catch(() => {})
  const restore: (() => void)[] = []
  try {
    if (options.terminal && stdio.isTerminal('stdout')) {
      restore.push(stdio.onResize(resized))
      // It may have changed since the program was started.
      resized()
    }
    if (input) {
      void forwardInput(session, input, new DetachFilter(raw ? options.detachKeys : []), leave)
    }
    const output = forwardOutput(context, session).then(async (gone): Promise<Outcome> => {
      if (gone) return { kind: 'readerGone' }
      return { kind: 'exit', record: await session.exit }
    })
    const gone = new Promise<never>((_, reject) => {
      restore.push(context.caller.onGone(() => reject(new CallerGone())))
    })
    const outcome = await Promise.race([output, left, gone])
    if (outcome.kind !== 'exit') session.close()
    return outcome
  } catch (error) {
    session.close()
    throw error
  } finally {
    for (const act of restore.reverse()) act()
    input?.close()
  }
}

/** Resolves with true when the caller's own reader has gone. */
async function forwardOutput(context: Context, session: Session): Promise<boolean> {
  for await (const { stream, data } of session.output) {
    try {
      await context.write(stream, data)
    } catch (error) {
      if (!isErrno(error, 'EPIPE', 'ERR_STREAM_DESTROYED')) throw error
      if (stream === 'stdout') return true
    }
  }
  return false
}

/** The caller's stdin to the program's, until it ends. After the program has closed its own, the detach keys still work. */
async function forwardInput(
  session: Session,
  input: Input,
  filter: DetachFilter,
  leave: (outcome: Outcome) => void,
): Promise<void> {
  let open = true
  try {
    for await (const chunk of input) {
      const { pass, detached } = filter.feed(chunk)
      if (pass.length > 0 && open) open = await taken(session, pass)
      if (detached) return leave({ kind: 'detached' })
    }
  } catch (error) {
    // That of a caller who is killed has not ended, and the program may get another.
    if (error instanceof CallerGone) return
    // We have closed it, the session being over; or it cannot be read: the program's output and end still count.
  }
  if (open) session.closeInput()
}

async function taken(session: Session, data: Uint8Array): Promise<boolean> {
  try {
    await session.write(data)
    return true
  } catch {
    return false
  }
}

/** What docker and podman pass on: all that can be caught, but for those about our own children, pipes and terminal. */
const PROXIED = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
] as const

/**
 * Passes the signals that the caller gets on to `kill`, in order. Those that come before `ready` resolves wait for it. Returns the way back.
 */
export async function proxySignals(
  { caller, warn }: Context,
  ready: Promise<unknown>,
  kill: (signal: string) => Promise<void>,
): Promise<() => void> {
  let last = ready.catch(() => {})
  const pass = (number: number): void => {
    const signal = signalName(number)
    last = last
      .then(() => kill(signal))
      .catch((error: unknown) => {
        warn(`cannot pass ${signal} on: ${error instanceof Error ? error.message : error}`)
      })
  }
  return caller.onSignal(
    pass,
    PROXIED.map((name) => constants.signals[name]),
  )
}
