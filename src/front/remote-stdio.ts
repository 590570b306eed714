import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { type Caller, CallerGone } from '../kernel/caller.ts'
import type { Input, Output, Stdio, TerminalSize } from '../kernel/stdio.ts'
import type { FrontConnection } from './connection.ts'
import type { Call, FrameName } from './protocol.ts'

const NUMBERS = { stdin: 0, stdout: 1, stderr: 2 } as const
/** Each is answered; the front takes nothing larger than 16 MiB. */
const OUTPUT_BYTES_MAX = 64 * 1024

/** stdin, stdout and stderr of the process at the other end of a connection: what is written is answered there, and stdin is read when it is wanted. */
export class RemoteStdio implements Stdio {
  readonly #connection: FrontConnection
  readonly #caller: Caller
  readonly #terminals: number
  readonly #writes: ((error?: Error) => void)[] = []
  readonly #resized = new Set<() => void>()
  #size: TerminalSize
  #input: { take(bytes: Buffer | undefined): void; lose(error: Error): void } | undefined
  /** The last that nobody waits for: answered, so is all before it. */
  #put = Promise.resolve()
  #isGone = false

  constructor(connection: FrontConnection, call: Call, caller: Caller) {
    this.#connection = connection
    this.#caller = caller
    this.#terminals = call.terminals
    this.#size = { rows: call.rows, columns: call.columns }
    void connection.gone.then(() => this.#end())
  }

  /** A frame of the caller's; false where it is none of ours. */
  take(name: FrameName | undefined, payload: Buffer): boolean {
    if (name === 'written' && payload.length === 4) this.#written(payload.readUInt32LE(0))
    else if (name === 'input' && this.#input) this.#taken(payload)
    else if (name === 'size' && payload.length === 8) this.#resize(payload)
    // Wanted no longer when it was sent.
    else return name === 'input'
    return true
  }

  isTerminal(of: 'stdin' | Output): boolean {
    return (this.#terminals & (1 << NUMBERS[of])) !== 0
  }

  size(): TerminalSize {
    return this.#size
  }

  async write(to: Output, data: string | Uint8Array, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const bytes = typeof data === 'string' ? Buffer.from(data) : data
    const parts: Promise<void>[] = []
    // All of it before what others write meanwhile.
    for (let at = 0; at < bytes.length || at === 0; at += OUTPUT_BYTES_MAX) {
      parts.push(this.#send(to, bytes.subarray(at, at + OUTPUT_BYTES_MAX), signal))
    }
    await Promise.all(parts)
  }

  put(to: Output, text: string): void {
    // Who has gone is not told.
    this.#put = this.write(to, text).catch(() => {})
  }

  flushed(): Promise<void> {
    return this.#put
  }

  input(): Input {
    return {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          const value = await this.#next()
          return value ? { done: false, value } : { done: true, value: undefined }
        },
      }),
      close: () => {
        if (!this.#input) return
        this.#taken(Buffer.alloc(0))
        this.#connection.send('want', Buffer.of(0))
      },
    }
  }

  raw(): () => void {
    this.#connection.send('raw', Buffer.of(1))
    return () => this.#connection.send('raw', Buffer.of(0))
  }

  onResize(tell: () => void): () => void {
    this.#resized.add(tell)
    const listening = this.#caller.onSignal(() => {}, [constants.signals.SIGWINCH])
    return () => {
      this.#resized.delete(tell)
      void listening.then((stop) => stop())
    }
  }

  #send(to: Output, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.#isGone) return Promise.reject(new CallerGone())
    this.#connection.send('output', Buffer.concat([Buffer.of(NUMBERS[to]), bytes]))
    return new Promise((resolve, reject) => {
      const giveUp = (): void => reject(signal?.reason)
      signal?.addEventListener('abort', giveUp, { once: true })
      this.#writes.push((error) => {
        signal?.removeEventListener('abort', giveUp)
        error ? reject(error) : resolve()
      })
    })
  }

  #written(errno: number): void {
    const settle = this.#writes.shift()
    if (errno === 0) {
      settle?.()
      return
    }
    const [code = 'EIO', text = ''] = getSystemErrorMap().get(-errno) ?? []
    // As Node's own writing has it.
    const error = new Error(`${code}: ${text}, write`)
    settle?.(Object.assign(error, { code, errno: -errno, syscall: 'write' }))
  }

  #next(): Promise<Buffer | undefined> {
    if (this.#isGone) return Promise.reject(new CallerGone())
    this.#connection.send('want', Buffer.of(1))
    return new Promise((take, lose) => {
      this.#input = { take, lose }
    })
  }

  #taken(bytes: Buffer): void {
    const waiting = this.#input
    this.#input = undefined
    waiting?.take(bytes.length > 0 ? bytes : undefined)
  }

  #resize(payload: Buffer): void {
    this.#size = { rows: payload.readUInt32LE(0), columns: payload.readUInt32LE(4) }
    for (const tell of this.#resized) tell()
  }

  #end(): void {
    this.#isGone = true
    for (const settle of this.#writes.splice(0)) settle(new CallerGone())
    this.#input?.lose(new CallerGone())
  }
}
