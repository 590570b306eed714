import { openSync, readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Fault, isErrno } from '../base/fault.ts'
import { scopeCommand } from '../cgroup/index.ts'
import { replyFault } from '../container/monitor-fault.ts'
import { binding, NATIVE_DIRECTORY } from '../kernel/binding.ts'
import type { Caller, ChildFd, PipeReader } from '../kernel/caller.ts'
import { Fd } from '../kernel/fd.ts'
import { readOnlyMount } from '../kernel/mount-api.ts'
import { type Pipe, twoPipes } from '../kernel/pipe.ts'
import { openProcess, signalProcess } from '../kernel/process.ts'

const PROGRAM = fileURLToPath(new URL('berth-launch', NATIVE_DIRECTORY))
/** A line of a report: an error's text is the longest. */
const COMPLAINT_BYTES_MAX = 1000
const REPORT_BYTES_MAX = 64 * 1024
/** Commands that start it themselves, other than with systemd's scopes. */
const LAUNCHING = new Set(['create', 'run', 'exec'])

export interface LaunchRequest {
  /** Whose child berth-launch is. */
  readonly caller: Caller
  readonly mode: 'create' | 'exec' | 'criu'
  /** For messages: what is done. */
  readonly what: string
  /** criu: the request. */
  readonly plan: Uint8Array
  /** create: that directory, where the start comes in; exec: the pidfd of the first process; criu: where the images are. */
  readonly place: Fd
  /** Stays until the process ends. */
  readonly foreground: boolean
  readonly consoleSocket: string | undefined
  /** Who gets a pidfd of the process. */
  readonly pidfdSocket?: string | undefined
  /** exec: relative to the plan's cgroup, that one and no other; else where that cannot be joined the first process's does as well. */
  readonly group?: string | undefined
  /** create: systemd makes the scope that the process is in; `scope` in the first report then waits for `goOn`. */
  readonly scope?: { readonly slice: string; readonly unit: string } | undefined
  /** Of the caller's descriptors from 3 on: those that the program gets. */
  readonly preserve: number
  /** criu: what its command line has besides, its environment, and descriptors from 10 on. */
  readonly criu?: {
    readonly words: readonly string[]
    readonly env: readonly string[]
    readonly fds: readonly Fd[]
  }
}

/** A line of berth-launch; one of these. */
interface Report {
  readonly scope?: number
  readonly hooks?: number
  readonly pid?: number
  readonly exit?: number
  /** Of CRIU: the images are written. */
  readonly dumped?: number
  readonly stage?: string
}

/** A running berth-launch. Its death, or ours, before the process is whole leaves nothing of it. */
export class Launch {
  readonly #what: string
  readonly #reports: PipeReader
  readonly #commands: Fd
  readonly #ended: Promise<unknown>
  readonly #complaint: Fd
  readonly #notGone: () => void
  /** Of the process that was made, from its report on. */
  #process: Fd | undefined
  #text = ''

  constructor(request: LaunchRequest) {
    this.#what = request.what
    using pipes = twoPipes()
    const { ended, complaint } = begin(request, pipes.first, pipes.second)
    this.#ended = ended
    this.#complaint = complaint
    this.#reports = request.caller.reader(new Fd(pipes.first.read.release()))
    this.#commands = new Fd(pipes.second.write.release())
    // What it began must not go on without it.
    this.#notGone = request.caller.onGone(() => this.#commands.close())
  }

  /** The next line; a failure is a Fault. What a creation takes is the kernel's time, so a process that is its own caller just waits. */
  next(): Promise<Report> {
    return this.#next(false)
  }

  /** The same while signals and the like are served. */
  later(): Promise<Report> {
    return this.#next(true)
  }

  async #next(isLong: boolean): Promise<Report> {
    while (!this.#text.includes('\n')) {
      const bytes = await this.#reports.read(isLong)
      if (bytes.length === 0 || this.#text.length > REPORT_BYTES_MAX) {
        throw new LaunchFault(this.#what, this.#said())
      }
      this.#text += bytes.toString('utf8')
    }
    return this.#line()
  }

  #line(): Report {
    const end = this.#text.indexOf('\n')
    const line = JSON.parse(this.#text.slice(0, end)) as Report & Record<string, unknown>
    this.#text = this.#text.slice(end + 1)
    if (line.stage !== undefined) throw replyFault(this.#what, line)
    if (line.pid !== undefined) this.#process = openProcess(line.pid)
    return line
  }

  /** What it, or systemd-run before it, has written. */
  #said(): string {
    const text = Buffer.alloc(COMPLAINT_BYTES_MAX)
    return text
      .toString('utf8', 0, readSync(this.#complaint.number, text, 0, text.length, 0))
      .trim()
  }

  /** The groups of a scope are made. */
  goOn(): void {
    writeSync(this.#commands.number, 'G')
  }

  /** The hooks have run: goes on, with the state for those inside. */
  proceed(state: string): void {
    const text = Buffer.from(state)
    const head = Buffer.alloc(5)
    head.write('C')
    head.writeUInt32LE(text.length, 1)
    const bytes = Buffer.concat([head, text])
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#commands.number, bytes, done)
    }
  }

  /** What was begun has failed: ends the process, too, where it is whole already, for else berth-launch would wait for it. */
  async abandon(): Promise<void> {
    if (this.#process) signalProcess(this.#process, constants.signals.SIGKILL)
    await this.close()
  }

  /**
   * Closes our ends and waits for its own, in the foreground for that of the process. Before the process is whole this kills it. May be called again, as
   * abandon() may.
   */
  async close(): Promise<void> {
    this.#notGone()
    this.#commands.close()
    await this.#ended
    this.#process?.close()
    this.#process = undefined
    this.#reports.close()
    this.#complaint.close()
  }
}

/** berth-launch, or what starts it, ended without a report. */
export class LaunchFault extends Fault {
  readonly complaint: string

  constructor(what: string, complaint: string) {
    super('INTERNAL', `cannot ${what}: ${complaint || 'berth-launch has ended without a word'}`)
    this.complaint = complaint
  }
}

let program: Fd | undefined

/**
 * In a daemon the program comes from a read-only mount that is made once: berth-launch, which executes itself from one of its own where it is not in one, would wait for the
 * kernel to dissolve that.
 */
function programFor(caller: Caller): string | Fd {
  return caller.isSelf ? PROGRAM : mountedProgram()
}

function mountedProgram(): Fd {
  program ??= readOnlyMount(PROGRAM)
  return program
}

/** Of which a command line of `berth-oci` will most likely want a child, if not refused: it may be started while the command is judged. */
export function programAhead(args: readonly string[]): Fd | undefined {
  const wants = args.some((word) => LAUNCHING.has(word)) && !args.includes('--systemd-cgroup')
  if (!wants) return undefined
  try {
    return mountedProgram()
  } catch (error) {
    // Told by who cannot do without.
    if (isErrno(error)) return undefined
    throw error
  }
}

/** Starts berth-launch, or systemd-run that starts it, with the pipes' other ends. */
function begin(
  request: LaunchRequest,
  reports: Pipe,
  commands: Pipe,
): { ended: Promise<unknown>; complaint: Fd } {
  using plan = planFile(request.plan)
  using complaint = new Fd(binding.memfd('complaint'))
  using nothing = new Fd(openSync('/dev/null', 'r'))
  const { scope } = request
  const before = scope ? scopeCommand({ ...scope, description: request.what }) : undefined
  const { caller } = request
  const own = (number: number): ChildFd => ({ caller: number })
  const { status } = caller.spawn({
    file: before?.file ?? programFor(caller),
    args: [
      ...(before ? [...before.args, PROGRAM] : ['berth-launch']),
      request.mode,
      ...(scope ? ['--scoped'] : []),
      ...(request.foreground ? ['--foreground'] : []),
      ...(request.consoleSocket === undefined ? [] : [`--console=${request.consoleSocket}`]),
      ...(request.pidfdSocket === undefined ? [] : [`--pidfd=${request.pidfdSocket}`]),
      ...(request.group === undefined ? [] : [`--cgroup=${request.group}`]),
      `--preserve=${request.preserve}`,
      ...(request.criu?.words ?? []),
    ],
    env: request.criu?.env ?? [],
    fds: [
      ...[nothing, complaint, complaint, reports.write, commands.read, plan, request.place],
      ...Array.from({ length: 3 + request.preserve }, (_, i) => own(i)),
      ...(request.criu?.fds ?? []),
    ],
  })
  // Where it cannot be executed its reports end.
  const ended = status.catch(() => {})
  return { ended, complaint: new Fd(complaint.release()) }
}

function planFile(plan: Uint8Array): Fd {
  const file = new Fd(binding.memfd('plan'))
  try {
    // Where it is, it is read from its beginning on.
    for (let done = 0; done < plan.length; ) {
      done += writeSync(file.number, plan, done, plan.length - done, done)
    }
    return file
  } catch (error) {
    file.close()
    throw error
  }
}
