/** Whole commands, from the call of the program to its end. */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ENVIRONMENT } from './world.ts'

/** One that takes longer hangs. */
export const COMMAND_LIMIT_MS = 120_000

/** Milliseconds of all the commands together. */
export function timeOf(
  commands: readonly (readonly string[])[],
  env: Readonly<Record<string, string>> = {},
): number {
  // A file, since a created container keeps its stderr: a pipe would not end with the command.
  const path = join(tmpdir(), `berth-bench-${process.pid}.errors`)
  const errors = openSync(path, 'w+')
  try {
    const begin = performance.now()
    for (const [program = '', ...args] of commands) {
      const { status, error } = spawnSync(program, args, {
        stdio: ['ignore', 'ignore', errors],
        env: { ...ENVIRONMENT, ...env },
        timeout: COMMAND_LIMIT_MS,
        killSignal: 'SIGKILL',
      })
      if (status !== 0) {
        const text = error?.message ?? readFileSync(`/proc/self/fd/${errors}`, 'utf8').trim()
        throw new Error(`${[program, ...args].join(' ')}: ${text}`)
      }
    }
    return performance.now() - begin
  } finally {
    closeSync(errors)
    rmSync(path, { force: true })
  }
}
