import { type Command, CommanderError } from 'commander'
import { Ahead } from '../base/ahead.ts'
import { describe, exitCode, harmless, isErrno } from '../base/fault.ts'
import type { Roots } from '../engine/types.ts'
import { type Caller, CallerGone, NotHere } from '../kernel/caller.ts'
import type { Stdio } from '../kernel/stdio.ts'
import type { Context } from './context.ts'
import { commandWords, isServed, program, rootsOf } from './program.ts'

/** The exit code of a program that its reader has left: 128 + SIGPIPE. */
const READER_GONE = 141
/** Of the caller's environment: what changes how berth works. Who has it otherwise than the daemon is not served by him. */
const STEERING = ['BERTH_MONITOR', 'BERTH_SYSTEM_LIBRARIES', 'NODE_OPTIONS', 'TZ']

/** Commands, and the call that they are run for. */
class CommandLine implements Context {
  // Known when they are run.
  readonly caller!: Caller
  readonly stdio!: Stdio
  readonly daemon: Roots | undefined
  #code = 0
  #root!: Command

  /** The commands of these arguments, and of all with the same commandWords(). */
  static async of(args: readonly string[], isOwn: boolean): Promise<CommandLine> {
    const line = new CommandLine()
    line.#root = await program(args, line, isOwn)
    line.#root.on('option:version', () => {
      throw new VersionAsked()
    })
    return line
  }

  /** Once. */
  async run(
    args: readonly string[],
    call: Pick<CommandLine, 'caller' | 'stdio' | 'daemon'>,
  ): Promise<number> {
    Object.assign(this, call)
    if (args.length === 0) this.#root.outputHelp()
    else await this.#root.parseAsync(args, { from: 'user' })
    return this.#code
  }

  readonly roots = (): Roots => {
    const { daemon } = this
    const roots = rootsOf(this.#root, this.caller)
    if (daemon && (roots.root !== daemon.root || roots.state !== daemon.state)) {
      throw new NotHere()
    }
    return roots
  }

  readonly open: Context['open'] = async (load) => {
    const [{ openEngine }, api] = await Promise.all([import('../engine/open.ts'), load()])
    const { caller, warn } = this
    return { api, engine: openEngine({ ...this.roots(), warn, caller }) }
  }

  readonly exit = (wanted: number): void => {
    this.#code = wanted
  }

  readonly warn = (message: string): void => {
    this.stdio.put('stderr', `berth: ${harmless(message)}\n`)
  }

  readonly print: Context['print'] = (text, signal) => this.stdio.write('stdout', text, signal)
  readonly write: Context['write'] = (to, data) => this.stdio.write(to, data)
}

/** Of a daemon. To make the options of `run` takes a millisecond. */
const linesAhead = new Ahead((words) => CommandLine.of(words.split(' '), false))

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
  const kind = commandWords(args).join(' ')
  let code: number
  try {
    const line = daemon ? await linesAhead.take(kind) : await CommandLine.of(args, caller.isSelf)
    code = await line.run(args, { caller, stdio, daemon })
  } catch (error) {
    if (error instanceof NotHere || error instanceof CallerGone) throw error
    code = await failed(stdio, error, args.includes('--debug'))
  }
  await stdio.flushed()
  if (daemon) linesAhead.again(kind)
  return code
}

class VersionAsked extends Error {}

async function failed(stdio: Stdio, error: unknown, debug: boolean): Promise<number> {
  // commander has written its message; asked-for help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 125
  if (error instanceof VersionAsked) {
    const { packageVersion } = await import('../engine/version.ts')
    await stdio.write('stdout', `berth ${packageVersion()}\n`)
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
