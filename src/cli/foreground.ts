import { isErrno } from '../base/fault.ts'
import type { ProcessExit, Session } from '../engine/types.ts'
import { binding } from '../kernel/binding.ts'
import { write } from './context.ts'
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

/** Rows and columns of our terminal, for a program with one; 0 where there is none. */
export function terminalSize(terminal = true): { rows: number; columns: number } {
  const { rows = 0, columns = 0 } = terminal && process.stdout.isTTY ? process.stdout : {}
  return { rows, columns }
}

/**
 * Joins a program's stdio with ours until it ends, or we leave. With a terminal on both sides ours is raw meanwhile: every key is
 * the program's.
 */
export async function foreground(session: Session, options: ForegroundOptions): Promise<Outcome> {
  // Node makes each at its first use.
  const stdin = options.stdin ? process.stdin : undefined
  const stdout = options.terminal ? process.stdout : undefined
  const raw = options.terminal && stdin?.isTTY ? stdin : undefined
  let leave: (outcome: Outcome) => void = () => {}
  const left = new Promise<Outcome>((resolve) => {
    leave = resolve
  })
  const resized = (): void => {
    const { rows, columns } = terminalSize()
    session.resize(rows, columns)
  }
  // Its failure is told by the race below; until then it must not count as unhandled.
  session.exit.catch(() => {})
  try {
    if (raw) {
      raw.setRawMode(true)
      // Node leaves newline translation on: the program's own terminal has done it already.
      binding.rawOutput(raw.fd)
    }
    if (stdout?.isTTY) {
      stdout.on('resize', resized)
      // It may have changed since the program was started.
      resized()
    }
    if (stdin) void forwardInput(session, new DetachFilter(raw ? options.detachKeys : []), leave)
    const output = forwardOutput(session).then(async (gone): Promise<Outcome> => {
      if (gone) return { kind: 'readerGone' }
      return { kind: 'exit', record: await session.exit }
    })
    const outcome = await Promise.race([output, left])
    if (outcome.kind !== 'exit') session.close()
    return outcome
  } finally {
    stdout?.off('resize', resized)
    raw?.setRawMode(false)
    // An unread stdin would keep this process alive.
    stdin?.destroy()
  }
}

/** Resolves with true when our own reader has gone. */
async function forwardOutput(session: Session): Promise<boolean> {
  for await (const { stream, data } of session.output) {
    try {
      await write(stream, data)
    } catch (error) {
      if (!isErrno(error, 'EPIPE', 'ERR_STREAM_DESTROYED')) throw error
      if (stream === 'stdout') return true
    }
  }
  return false
}

/** Our stdin to the program's, until ours ends. After the program has closed its own, the detach keys still work. */
async function forwardInput(
  session: Session,
  filter: DetachFilter,
  leave: (outcome: Outcome) => void,
): Promise<void> {
  let open = true
  try {
    for await (const chunk of process.stdin) {
      const { pass, detached } = filter.feed(chunk as Buffer)
      if (pass.length > 0 && open) open = await taken(session, pass)
      if (detached) return leave({ kind: 'detached' })
    }
  } catch {
    // We have destroyed our stdin, the session being over; or it cannot be read: the program's output and end still count.
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
const PROXIED: readonly NodeJS.Signals[] = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
]

/**
 * Passes the signals that we get on to `kill`, in order. Those that come before `ready` resolves wait for it. Returns the way back.
 */
export function proxySignals(
  ready: Promise<unknown>,
  kill: (signal: string) => Promise<void>,
  warn: (message: string) => void,
): () => void {
  let last = ready.catch(() => {})
  const listener = (signal: NodeJS.Signals): void => {
    last = last
      .then(() => kill(signal))
      .catch((error: unknown) => {
        warn(`cannot pass ${signal} on: ${error instanceof Error ? error.message : error}`)
      })
  }
  for (const signal of PROXIED) process.on(signal, listener)
  return () => {
    for (const signal of PROXIED) process.off(signal, listener)
  }
}
