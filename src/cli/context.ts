import type { Engine } from '../engine/open.ts'
import type { Roots } from '../engine/types.ts'
import type { Caller } from '../kernel/caller.ts'
import type { Output, Stdio } from '../kernel/stdio.ts'

/** What a command gets of its caller, and of berth: everything that differs between processes. */
export interface Context {
  /** Who wants the command done. */
  readonly caller: Caller
  readonly stdio: Stdio
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
  /** Writes to stdout; waits where the reader is slow, until the signal. */
  print(text: string | Uint8Array, signal?: AbortSignal): Promise<void>
  /** Resolves when the stream has taken the data; rejects with EPIPE when the reader has gone. */
  write(to: Output, data: string | Uint8Array): Promise<void>
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
      if (line !== '') await context.print(`${line ?? name}\n`)
    } catch (error) {
      failures.push(error)
    }
  }
  const { describe } = await import('../base/fault.ts')
  for (const failure of failures.slice(0, -1)) context.warn(describe(failure))
  if (failures.length > 0) throw failures.at(-1)
}
