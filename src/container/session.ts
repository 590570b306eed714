import type { Socket } from 'node:net'
import { Fault } from '../base/fault.ts'
import { encodeFrame, stdinFrames } from '../wire/frame.ts'

/** What may wait for a reader before the connection is no longer read; the monitor then holds back the process. */
const OUTPUT_BYTES_MAX = 1024 * 1024

export interface Output {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Buffer
}

/**
 * A client's end of a process's stdio. `output` must be read, once: the process waits for a slow reader, and with it everything else on this connection.
 * After `exit` has resolved `output` still holds what was not read.
 */
export class MonitorSession<Exit> {
  /** The end of the process; rejects with UNAVAILABLE when the monitor or the connection is lost first. */
  readonly exit: Promise<Exit>
  readonly #socket: Socket
  readonly #queue: Output[] = []
  #bytes = 0
  #discards = false
  #ended = false
  #lost: Fault | undefined
  #wake: (() => void) | undefined
  #resolve: (exit: Exit) => void = () => {}
  #reject: (error: Error) => void = () => {}

  constructor(socket: Socket) {
    this.#socket = socket
    this.exit = new Promise<Exit>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // A caller that only reads `output` is told there.
    this.exit.catch(() => {})
  }

  /** Everything the process writes from now on, in order; ends with the process. */
  get output(): AsyncIterable<Output> {
    return { [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) }
  }

  /** Resolves when there is room for more; rejects when the process has ended. */
  async write(data: Uint8Array): Promise<void> {
    for (const frame of stdinFrames(data)) {
      if (this.#ended || this.#lost) {
        throw this.#lost ?? new Fault('FAILED_PRECONDITION', 'the process has ended')
      }
      if (!this.#socket.write(frame)) await this.#drained()
    }
  }

  /** End of file for the process's stdin; output goes on. A container whose stdin outlives its clients keeps it open. */
  closeInput(): void {
    if (!this.#ended && !this.#lost) this.#socket.write(encodeFrame('stdinClose'))
  }

  /** Nothing more of the output is wanted, only the exit: the monitor then reads it and throws it away. What has come and was not read is dropped. */
  discard(): void {
    if (this.#discards) return
    this.#discards = true
    this.#queue.length = 0
    this.#bytes = 0
    if (this.#ended || this.#lost) return
    this.#socket.write(encodeFrame('discard'))
    this.#socket.resume()
  }

  resize(rows: number, columns: number): void {
    if (this.#ended || this.#lost) return
    const size = Buffer.alloc(4)
    size.writeUInt16LE(rows, 0)
    size.writeUInt16LE(columns, 2)
    this.#socket.write(encodeFrame('resize', size))
  }

  /** Leaves, and closes the connection; the process goes on. */
  close(): void {
    this.#socket.destroy()
  }

  /** For the connection: a frame of output. */
  push(stream: Output['stream'], data: Buffer): void {
    if (this.#discards) return
    this.#queue.push({ stream, data })
    this.#bytes += data.length
    if (this.#bytes > OUTPUT_BYTES_MAX) this.#socket.pause()
    this.#wakeUp()
  }

  /** For the connection: the process has ended. */
  end(exit: Exit): void {
    if (this.#ended) return
    this.#ended = true
    this.#resolve(exit)
    this.#wakeUp()
  }

  /** For the connection: the monitor is lost. */
  lose(fault: Fault): void {
    if (this.#ended || this.#lost) return
    this.#lost = fault
    this.#reject(fault)
    this.#wakeUp()
  }

  async #next(): Promise<IteratorResult<Output>> {
    for (;;) {
      const output = this.#queue.shift()
      if (output) {
        this.#bytes -= output.data.length
        if (this.#bytes <= OUTPUT_BYTES_MAX && this.#socket.isPaused()) this.#socket.resume()
        return { done: false, value: output }
      }
      if (this.#ended || this.#lost) return { done: true, value: undefined }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #wakeUp(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#socket.off('drain', done)
        this.#socket.off('close', done)
        resolve()
      }
      this.#socket.on('drain', done)
      this.#socket.on('close', done)
      this.exit.then(done, done)
    })
  }
}
