import { openSync, read, readSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Fault } from '../base/fault.ts'
import { replyFault } from '../container/monitor-fault.ts'
import { binding, NATIVE_DIRECTORY } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'

const PROGRAM = fileURLToPath(new URL('berth-launch', NATIVE_DIRECTORY))
/** A line of a report: an error's text is the longest. */
const REPORT_BYTES_MAX = 64 * 1024

export interface LaunchRequest {
  readonly mode: 'create' | 'exec'
  /** For messages: what is done. */
  readonly what: string
  readonly plan: Uint8Array
  /** The container's state directory, where the plan is put for a moment. */
  readonly directory: string
  /** create: that directory, where the start comes in; exec: the pidfd of the first process. */
  readonly place: Fd
  /** Stays until the process ends. */
  readonly foreground: boolean
  readonly consoleSocket: string | undefined
  /** Of our descriptors from 3 on: those that the program gets. */
  readonly preserve: number
}

/** A line of berth-launch; one of these. */
interface Report {
  readonly hooks?: number
  readonly pid?: number
  readonly exit?: number
  readonly stage?: string
}

/** A running berth-launch. Its death, or ours, before the process is whole leaves nothing of it. */
export class Launch {
  readonly #what: string
  readonly #reports: Fd
  readonly #commands: Fd
  readonly #ended: Promise<unknown>
  #text = ''

  constructor(request: LaunchRequest) {
    this.#what = request.what
    const reports = binding.pipe()
    const commands = binding.pipe()
    this.#reports = new Fd(reports.read)
    this.#commands = new Fd(commands.write)
    using reportEnd = new Fd(reports.write)
    using commandEnd = new Fd(commands.read)
    using plan = planFile(request)
    const { status } = binding.spawn({
      // BERTH_LAUNCH: a build with sanitizers, for a whole run of the tests (scripts/sanitize.ts).
      file: process.env['BERTH_LAUNCH'] ?? PROGRAM,
      args: [
        'berth-launch',
        request.mode,
        ...(request.foreground ? ['--foreground'] : []),
        ...(request.consoleSocket === undefined ? [] : [`--console=${request.consoleSocket}`]),
        `--preserve=${request.preserve}`,
      ],
      env: [],
      fds: [
        ...[0, 1, 2, reportEnd.number, commandEnd.number, plan.number, request.place.number],
        ...Array.from({ length: request.preserve }, (_, i) => 3 + i),
      ],
    })
    this.#ended = status
  }

  /** The next line; a failure is a Fault. Nothing else happens meanwhile: that a creation takes is the kernel's time. */
  next(): Report {
    const buffer = Buffer.allocUnsafe(4096)
    while (!this.#text.includes('\n')) {
      const count = readSync(this.#reports.number, buffer)
      this.#take(buffer, count)
    }
    return this.#line()
  }

  /** The same while signals and the like are served. */
  async later(): Promise<Report> {
    const buffer = Buffer.allocUnsafe(4096)
    while (!this.#text.includes('\n')) {
      const { bytesRead } = await promisify(read)(this.#reports.number, { buffer })
      this.#take(buffer, bytesRead)
    }
    return this.#line()
  }

  #take(buffer: Buffer, count: number): void {
    if (count === 0 || this.#text.length > REPORT_BYTES_MAX) {
      throw new Fault('INTERNAL', `cannot ${this.#what}: berth-launch has ended without a word`)
    }
    this.#text += buffer.toString('utf8', 0, count)
  }

  #line(): Report {
    const end = this.#text.indexOf('\n')
    const line = JSON.parse(this.#text.slice(0, end)) as Record<string, unknown>
    this.#text = this.#text.slice(end + 1)
    if (line['stage'] !== undefined) throw replyFault(this.#what, line)
    return line
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

  /** Closes our ends and waits for its own: before the process is whole this kills it. */
  async close(): Promise<void> {
    this.#commands.close()
    await this.#ended
    this.#reports.close()
  }
}

function planFile({ directory, plan }: LaunchRequest): Fd {
  const path = join(directory, `plan.tmp-${process.pid}`)
  try {
    writeFileSync(path, plan, { mode: 0o600, flag: 'wx' })
    return new Fd(openSync(path, 'r'))
  } finally {
    rmSync(path, { force: true })
  }
}
