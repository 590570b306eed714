import type { Engine } from '../engine/open.ts'
import type { Roots } from '../engine/types.ts'

/** What main.ts hands to a command. */
export interface Context {
  /** From --root and --state, or the environment. */
  roots(): Roots
  /**
   * The engine, and the functions of it that `load` imports: only those that the command calls, for loading code is most of the time
   * that a command takes. Called after the options were judged.
   */
  open<Functions>(load: () => Promise<Functions>): Promise<{ api: Functions; engine: Engine }>
  /** Sets the exit code of the process; without a call it is 0. */
  exit(code: number): void
  /** A sentence for the user on stderr. */
  warn(message: string): void
}

const used = new Set<NodeJS.WriteStream>()

/** Our stdout or stderr. Node makes each at its first use, which takes a command that prints nothing some milliseconds less. */
export function stdio(name: 'stdout' | 'stderr'): NodeJS.WriteStream {
  const stream = process[name]
  used.add(stream)
  // A reader that has gone is told of by the write itself (see below). Otherwise nothing is left to tell him.
  if (stream.listenerCount('error') === 0) stream.on('error', () => {})
  return stream
}

/** Resolves when all that was written is with the reader, or he has gone: a full pipe takes no more at once. */
export async function flushed(): Promise<void> {
  for (const stream of used) {
    if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve))
  }
}

/** Writes to stdout; waits where the reader is slow, until the signal. */
export function print(text: string | Uint8Array, signal?: AbortSignal): Promise<void> {
  return write('stdout', text, signal)
}

/** Resolves when the stream has taken the data; rejects with EPIPE when the reader has gone, and after the signal nobody waits for him. */
export function write(
  name: 'stdout' | 'stderr',
  data: string | Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      stdio(name).destroy()
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    stdio(name).write(data, (error) => {
      signal?.removeEventListener('abort', giveUp)
      error ? reject(error) : resolve()
    })
  })
}

/**
 * Does `act` for each name, all of them whatever fails, and prints what each gives (the name, by default). Throws
 * the first failure at the end; the others are told by `warn`.
 */
export async function forEach(
  context: Context,
  names: readonly string[],
  act: (name: string) => Promise<string | undefined> | Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  for (const name of names) {
    try {
      const line = await act(name)
      if (line !== '') await print(`${line ?? name}\n`)
    } catch (error) {
      failures.push(error)
    }
  }
  const { describe } = await import('../base/fault.ts')
  for (const failure of failures.slice(0, -1)) context.warn(describe(failure))
  if (failures.length > 0) throw failures.at(-1)
}
