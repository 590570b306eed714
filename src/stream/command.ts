import { sizes } from './resize.ts'
import { errorText, type Outcome } from './status.ts'
import type { Session } from './types.ts'

/** Where a process's output goes. */
export interface Sink {
  /** Resolves when there is room for more; rejects when the client is gone. */
  write(data: Uint8Array): Promise<void>
  end(): void
}

/** The client's end of a command, whichever protocol it came by. What it did not ask for is undefined. */
export interface Channels {
  readonly stdin: AsyncIterable<Buffer> | undefined
  readonly resize: AsyncIterable<Buffer> | undefined
  readonly stdout: Sink | undefined
  readonly stderr: Sink | undefined
  readonly gone: AbortSignal
  /** The process takes no more: tells the client, where the protocol has a way to, and drops what still comes. */
  refuseInput(): void
  /** The last word: how it ended. Then the connection ends. */
  finish(outcome: Outcome): Promise<void>
}

export interface CommandOptions {
  /** For the client's eyes, should it fail: `error executing command in container`. */
  readonly failure: string
  /** An attached client is told that it ended, not with which code: the container goes by its own records. */
  readonly tellsCode: boolean
  readonly open: (signal: AbortSignal) => Promise<Session>
}

/** Runs a command between its session and its client, to the end of either. */
export async function runCommand(channels: Channels, options: CommandOptions): Promise<void> {
  const { gone } = channels
  let session: Session
  try {
    session = await options.open(gone)
  } catch (error) {
    if (!gone.aborted) {
      await channels.finish({ kind: 'failure', text: errorText(options.failure, error) })
    }
    return
  }
  const close = (): void => session.close()
  gone.addEventListener('abort', close)
  // Told below, after the output.
  session.exit.catch(() => {})
  try {
    if (gone.aborted) return
    void pumpInput(channels, session)
    void pumpSizes(channels, session)
    const outcome = await pumpOutput(channels, session, options)
    if (!gone.aborted) await channels.finish(outcome)
  } finally {
    gone.removeEventListener('abort', close)
    session.close()
  }
}

/** Resolves when the client is gone. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

async function pumpOutput(
  channels: Channels,
  session: Session,
  options: CommandOptions,
): Promise<Outcome> {
  try {
    for await (const { stream, data } of session.output) {
      const sink = stream === 'stdout' ? channels.stdout : channels.stderr
      await sink?.write(data)
    }
    channels.stdout?.end()
    channels.stderr?.end()
    const exit = await Promise.race([session.exit, aborted(channels.gone)])
    return { kind: 'exit', code: options.tellsCode && exit ? exit.code : 0 }
  } catch (error) {
    return { kind: 'failure', text: errorText(options.failure, error) }
  }
}

async function pumpInput(channels: Channels, session: Session): Promise<void> {
  if (channels.stdin === undefined) return
  try {
    for await (const data of channels.stdin) await session.write(data)
    session.closeInput()
  } catch {
    // The process, its stdin or the client is gone. The output tells which.
    channels.refuseInput()
  }
}

async function pumpSizes(channels: Channels, session: Session): Promise<void> {
  if (channels.resize === undefined) return
  try {
    for await (const { rows, columns } of sizes(channels.resize)) session.resize(rows, columns)
  } catch {
    // Without the client there is no terminal to follow.
  }
}
