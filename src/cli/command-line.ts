import { Command, CommanderError } from 'commander'
import { describe, exitCode, harmless, isErrno } from '../base/fault.ts'
import type { Roots } from '../engine/types.ts'
import { type Caller, CallerGone, NotHere } from '../kernel/caller.ts'
import type { Stdio } from '../kernel/stdio.ts'
import type { Context } from './context.ts'
import { isServed, program, rootsOf } from './program.ts'

/** The exit code of a program that its reader has left: 128 + SIGPIPE. */
const READER_GONE = 141
/** Of the caller's environment: what changes how berth works. Who has it otherwise than the daemon is not served by him. */
const STEERING = ['BERTH_MONITOR', 'BERTH_SYSTEM_LIBRARIES', 'NODE_OPTIONS', 'TZ']

/**
 * Runs a command line; gives its exit code. In a daemon, which works for `daemon`: NotHere, before anything is done, where the caller
 * must do it himself, and CallerGone.
 */
export async function runCommandLine(
  args: readonly string[],
  caller: Caller,
  stdio: Stdio,
  daemon?: Roots,
): Promise<number> {
  if (daemon && !(isServed(args) && isServedAs(caller))) throw new NotHere()
  let code = 0
  const context: Context = {
    caller,
    stdio,
    roots: () => {
      const roots = rootsOf(root)
      if (daemon && (roots.root !== daemon.root || roots.state !== daemon.state)) {
        throw new NotHere()
      }
      return roots
    },
    open: async (load) => {
      const [{ openEngine }, api] = await Promise.all([import('../engine/open.ts'), load()])
      return { api, engine: openEngine({ ...context.roots(), warn: context.warn, caller }) }
    },
    exit: (wanted) => {
      code = wanted
    },
    warn: (message) => stdio.put('stderr', `berth: ${harmless(message)}\n`),
    print: (text, signal) => stdio.write('stdout', text, signal),
    write: (to, data) => stdio.write(to, data),
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
    if (error instanceof NotHere || error instanceof CallerGone) throw error
    code = await failed(context, error, args.includes('--debug'))
  }
  await stdio.flushed()
  return code
}

class VersionAsked extends Error {}

async function failed(context: Context, error: unknown, debug: boolean): Promise<number> {
  const { stdio } = context
  // commander has written its message; asked-for help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 125
  if (error instanceof VersionAsked) {
    const { packageVersion } = await import('../engine/version.ts')
    await context.print(`berth ${packageVersion()}\n`)
    return 0
  }
  if (isErrno(error, 'EPIPE') && (error as NodeJS.ErrnoException).syscall === 'write') {
    return READER_GONE
  }
  stdio.put('stderr', `berth: ${harmless(describe(error))}\n`)
  if (debug) {
    for (let e: unknown = error; e instanceof Error; e = e.cause) {
      stdio.put('stderr', `${harmless(e.stack ?? '')}\n`)
    }
  }
  return exitCode(error)
}

/** As cri/serve.ts sets it. */
const DAEMON_UMASK = 0o022

/** Whether his process differs from the daemon's in nothing that a command looks at and cannot ask him for. */
function isServedAs({ env, umask }: Caller): boolean {
  return umask === DAEMON_UMASK && STEERING.every((name) => env[name] === process.env[name])
}
