import { Socket } from 'node:net'
import { resolve } from 'node:path'
import { getSystemErrorName } from 'node:util'
import { Fault } from '../base/fault.ts'
import type { ExitStatus } from '../kernel/binding.ts'
import {
  type Caller,
  CallerGone,
  type Child,
  type ChildOptions,
  NotHere,
  type PipeReader,
  PROGRAM_SIGNALS,
} from '../kernel/caller.ts'
import { Fd } from '../kernel/fd.ts'
import type { FrontConnection } from './connection.ts'
import { type Call, type FrameName, joinTexts, uint32 } from './protocol.ts'
import { RemoteStdio } from './remote-stdio.ts'

/** Of binding.spawn; and in a frame, above all exit codes. */
const SIGNAL_BASE = 128
const SIGNAL_ENDED = 256
/** Where these lead is another place for each process. */
const OWN_PLACES = /^\/(?:proc\/(?:self|thread-self)|dev\/(?:fd|stdin|stdout|stderr|tty))(?:\/|$)/

/** The process at the other end of a connection, for which a command is done here. */
export class RemoteCaller implements Caller {
  readonly isSelf = false
  readonly pid: number
  readonly umask: number
  readonly env: Readonly<Record<string, string>>
  readonly stdio: RemoteStdio
  readonly #connection: FrontConnection
  readonly #directory: string
  readonly #children: ((code: number, errno?: number) => void)[] = []
  readonly #listeners = new Map<(signal: number) => void, readonly number[]>()
  /** Who waits until the caller listens, in order. */
  readonly #listening: (() => void)[] = []
  readonly #mourners = new Set<() => void>()
  #isGone = false

  constructor(connection: FrontConnection, pid: number, call: Call) {
    this.#connection = connection
    this.pid = pid
    this.umask = call.umask
    this.env = call.env
    this.#directory = call.directory
    this.stdio = new RemoteStdio(connection, call, this)
    void connection.gone.then(() => this.#mourn())
  }

  /** A frame of the caller's while the command is done. */
  take(name: FrameName | undefined, payload: Buffer): void {
    if (name === 'signal' && payload.length === 4) {
      const signal = payload.readUInt32LE(0)
      if (signal === 0) this.#listening.shift()?.()
      for (const [tell, signals] of this.#listeners) if (signals.includes(signal)) tell(signal)
    } else if (name === 'ended' && payload.length === 12) {
      const [child, code, errno] = [0, 4, 8].map((at) => payload.readUInt32LE(at))
      this.#children[child ?? 0]?.(code ?? 1, errno)
    } else if (!this.stdio.take(name, payload)) {
      this.#connection.close()
    }
  }

  resolve(path: string): string {
    const absolute = resolve(this.#directory, path)
    if (OWN_PLACES.test(absolute)) throw new NotHere()
    return absolute
  }

  write(fd: 1 | 2, text: string): void {
    this.#connection.send('write', Buffer.concat([Buffer.of(fd), Buffer.from(text)]))
  }

  spawn({ file, args, env, fds, directory = '', group = false }: ChildOptions): Child {
    const passed: number[] = []
    const places = fds.map((fd) =>
      fd instanceof Fd ? `p${passed.push(fd.number) - 1}` : `c${fd.caller}`,
    )
    const program = file instanceof Fd ? `p${passed.push(file.number) - 1}` : file
    const head = [program, places.join(','), directory, group ? '1' : '0', String(args.length)]
    const texts = [...head, ...args, ...env]
    if (!this.#connection.sendWith('spawn', joinTexts(texts), passed)) {
      if (this.#connection.isGone) throw new CallerGone()
      throw new Fault('UNAVAILABLE', 'the caller does not read what is said to it')
    }
    const number = this.#children.length
    const status = new Promise<ExitStatus>((resolve, reject) => {
      this.#children.push((code, errno = 0) => {
        if (errno === 0) resolve(statusOf(code))
        else reject(Object.assign(new Error('exec'), { code: getSystemErrorName(-errno) }))
      })
      if (this.#isGone) resolve(statusOf(1))
    })
    return { status, kill: () => this.#connection.send('kill', uint32(number)) }
  }

  reader(pipe: Fd): PipeReader {
    return new StreamReader(pipe, this)
  }

  async onSignal(tell: (signal: number) => void, signals = PROGRAM_SIGNALS): Promise<() => void> {
    this.#listeners.set(tell, signals)
    // Before it says that it listens a signal would end it.
    const listens = new Promise<void>((resolve) => this.#listen(resolve))
    await Promise.race([listens, this.#connection.gone])
    return () => {
      this.#listeners.delete(tell)
      this.#listen()
    }
  }

  #listen(listens = (): void => {}): void {
    const heard = new Set([...this.#listeners.values()].flat())
    const bits = [...heard].reduce((sum, signal) => sum + 2 ** (signal - 1), 0)
    if (bits !== 0) this.#listening.push(listens)
    this.#connection.send('listen', uint32(bits))
  }

  instead(args: readonly string[] | undefined): void {
    this.#connection.send('instead', joinTexts(args ?? []))
  }

  onGone(act: () => void): () => void {
    if (this.#isGone) act()
    else this.#mourners.add(act)
    return () => this.#mourners.delete(act)
  }

  #mourn(): void {
    this.#isGone = true
    for (const act of this.#mourners) act()
    for (const tell of this.#children) tell(1)
  }
}

function statusOf(code: number): ExitStatus {
  const signal = Math.max(0, code - SIGNAL_ENDED)
  return { code: signal > 0 ? SIGNAL_BASE + signal : code, signal }
}

/** A pipe for whose next bytes no thread waits: as many may be open as there are callers. */
class StreamReader implements PipeReader {
  readonly #stream: Socket
  readonly #chunks: AsyncIterator<Buffer>
  readonly #gone: Promise<never>
  readonly #notGone: () => void

  constructor(pipe: Fd, caller: Caller) {
    this.#stream = new Socket({ fd: pipe.release(), readable: true, writable: false })
    this.#chunks = this.#stream[Symbol.asyncIterator]()
    let leave = (): void => {}
    this.#gone = new Promise((_, reject) => {
      leave = () => reject(new CallerGone())
    })
    // Nobody may be reading just then.
    this.#gone.catch(() => {})
    this.#notGone = caller.onGone(leave)
  }

  async read(): Promise<Buffer> {
    const { value, done } = await Promise.race([this.#chunks.next(), this.#gone])
    return done ? Buffer.alloc(0) : value
  }

  close(): void {
    this.#notGone()
    this.#stream.destroy()
  }
}
