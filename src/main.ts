import { Command, CommanderError } from 'commander'
import { describe, exitCode, harmless, isErrno } from './base/fault.ts'
import { type Context, flushed, print, stdio } from './cli/context.ts'
import { program, rootsOf } from './cli/program.ts'

/** The exit code of a program that its reader has left: 128 + SIGPIPE. */
const READER_GONE = 141

/** Runs a command line; the only place that sets the exit code. */
async function main(args: readonly string[]): Promise<void> {
  let code = 0
  const context: Context = {
    roots: () => rootsOf(root),
    open: async (load) => {
      const [{ openEngine }, api] = await Promise.all([import('./engine/open.ts'), load()])
      return { api, engine: openEngine({ ...context.roots(), warn: context.warn }) }
    },
    exit: (wanted) => {
      code = wanted
    },
    warn: (message) => stdio('stderr').write(`berth: ${harmless(message)}\n`),
  }
  let root = new Command()
  try {
    root = await program(args, context)
    root.on('option:version', () => {
      throw new VersionAsked()
    })
    if (args.length === 0) root.outputHelp()
    else await root.parseAsync(args, { from: 'user' })
  } catch (error) {
    code = await failed(error, args.includes('--debug'))
  }
  await flushed()
  // Nothing that is left open holds us up, nor does taking the heap down.
  process.exit(code)
}

class VersionAsked extends Error {}

async function failed(error: unknown, debug: boolean): Promise<number> {
  // commander has written its message; asked-for help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 125
  if (error instanceof VersionAsked) {
    const { packageVersion } = await import('./engine/version.ts')
    await print(`berth ${packageVersion()}\n`)
    return 0
  }
  if (isErrno(error, 'EPIPE') && (error as NodeJS.ErrnoException).syscall === 'write') {
    return READER_GONE
  }
  stdio('stderr').write(`berth: ${harmless(describe(error))}\n`)
  if (debug) {
    for (let e: unknown = error; e instanceof Error; e = e.cause) {
      stdio('stderr').write(`${harmless(e.stack ?? '')}\n`)
    }
  }
  return exitCode(error)
}

void main(process.argv.slice(2))
