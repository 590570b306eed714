import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { Front, frontMode } from './front.ts'
import { REPOSITORY } from './images.ts'
import { processesOf, testDirectory, traces } from './traces.ts'

/** What a finished command gave. `code` is 128+n where a signal ended it. */
export interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** Given to stdin, which is then closed. Without it stdin is empty. */
  readonly input?: string | Uint8Array
  readonly env?: Readonly<Record<string, string>>
  /** The command is killed after it, and the test fails. */
  readonly timeoutMs?: number
}

const COMMAND_TIMEOUT_MS = 60_000
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024

/** A berth of its own: private root and state directories, and the command line as a black box on them. */
export class Berth {
  readonly directory: string
  readonly root: string
  readonly state: string
  /** Where the file is to run by way of it: berth is called so, and serves itself. */
  readonly front: Front | undefined

  constructor() {
    // Short, since a unix socket's path has a limit; real, since mountinfo shows no links.
    this.directory = testDirectory(process.env['BERTH_TEST_DIRECTORY'])
    // A test of what outlives the machine says where.
    this.root = process.env['BERTH_TEST_ROOT'] ?? join(this.directory, 'root')
    this.state = join(this.directory, 'state')
    this.front = frontMode() && new Front(this)
    if (frontMode() === 'daemon') this.front?.start()
  }

  /** What berth is called by. */
  get command(): readonly [string, ...string[]] {
    return this.front ? [this.front.berth] : [process.execPath, join(REPOSITORY, 'bin/berth.cjs')]
  }

  env(): Record<string, string | undefined> {
    const path = this.front ? { PATH: this.front.path } : {}
    return {
      ...process.env,
      ...path,
      BERTH_ROOT: this.root,
      BERTH_STATE: this.state,
      NO_COLOR: '1',
    }
  }

  /** Starts a command and leaves it running; for `run -it`, `logs -f`, `events` and the like. */
  spawn(args: readonly string[], options: CommandOptions = {}): ChildProcessWithoutNullStreams {
    const [program, ...first] = this.command
    return spawn(program, [...first, ...args], {
      env: { ...this.env(), ...options.env },
      stdio: 'pipe',
    })
  }

  /** Runs a command to its end, whatever its exit code. */
  run(args: readonly string[], options: CommandOptions = {}): Promise<Result> {
    return finish(this.spawn(args, options), `berth ${args.join(' ')}`, options)
  }

  /** Runs a command that must succeed; its stdout without the last newline. */
  async ok(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, options)
    assert.is(code, 0, `berth ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`)
    return stdout.replace(/\n$/, '')
  }

  /** Runs a command that must fail in berth itself, with a message that matches. */
  async refused(args: readonly string[], message: RegExp): Promise<void> {
    const { code, stdout, stderr } = await this.run(args)
    assert.is.not(code, 0, `berth ${args.join(' ')} was not refused\n${stdout}`)
    assert.match(stderr, message)
  }

  /** The same on a terminal of its own (script(1)): stdout then holds what the terminal showed. */
  terminal(args: readonly string[], options: CommandOptions = {}): Promise<Result> {
    const words = [...this.command, ...args]
    const command = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
    const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
      env: { ...this.env(), ...options.env },
      stdio: 'pipe',
    })
    return finish(child, `berth ${args.join(' ')} on a terminal`, options)
  }

  /** Removes every container, as a user would. */
  async removeContainers(): Promise<void> {
    const ids = (await this.ok(['ps', '--all', '--quiet'])).split('\n').filter(Boolean)
    if (ids.length > 0) await this.ok(['rm', '--force', ...ids])
  }

  /** Kills (by pid) what still runs for these directories, and removes them. */
  destroy(): void {
    for (const pid of processesOf([this.directory])) kill(pid)
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Gives the test a berth of its own, and fails it if anything of it is left on the machine afterwards. */
export async function withBerth(use: (berth: Berth) => Promise<void>): Promise<void> {
  const berth = new Berth()
  const clean = traces({ roots: [berth.directory] })
  try {
    await use(berth)
    await berth.removeContainers()
    await berth.front?.stop()
    await clean()
  } catch (error) {
    // The test's own error is what the reader needs; this only keeps the machine usable.
    await berth.removeContainers().catch(() => {})
    throw error
  } finally {
    berth.destroy()
  }
}

/** Collects the output of a process and waits for its end. */
export function finish(
  child: ChildProcessWithoutNullStreams,
  name: string,
  options: CommandOptions = {},
): Promise<Result> {
  const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS
  return new Promise((resolve, reject) => {
    const stdout = collect(child.stdout)
    const stderr = collect(child.stderr)
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${name}: no end within ${timeoutMs} ms\n${stderr()}${stdout()}`))
    }, timeoutMs)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const number = signal === null ? 0 : (SIGNALS[signal] ?? 127)
      resolve({ code: code ?? 128 + number, stdout: stdout(), stderr: stderr() })
    })
    // A command that does not read its input ends before all of it is written.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input)
  })
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const parts: Buffer[] = []
  let size = 0
  stream.on('data', (part: Buffer) => {
    size += part.length
    if (size <= OUTPUT_BYTES_MAX) parts.push(part)
  })
  return () => Buffer.concat(parts).toString()
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

/**
 * One berth for all claims of a file, where a berth for each would cost more than the claims. Its last claim is
 * `test('nothing is left behind', nothingIsLeft)`.
 */
export function berthOfFile(): { berth: Berth; nothingIsLeft: () => Promise<void> } {
  const berth = new Berth()
  const clean = traces({ roots: [berth.directory] })
  const nothingIsLeft = async (): Promise<void> => {
    try {
      await berth.removeContainers()
      await berth.front?.stop()
      await clean()
    } finally {
      berth.destroy()
    }
  }
  return { berth, nothingIsLeft }
}
