import { setMaxListeners } from 'node:events'
import type { Duplex } from 'node:stream'
import { Fault } from '../base/fault.ts'
import { Budget, Inbox } from './inbox.ts'
import {
  ANSWER_BYTES_MAX,
  HELD_PING_MS,
  LINGER_AFTER_ERROR_MS,
  LINGER_MS,
  OUTPUT_PIECE_BYTES,
  STREAMS_MAX,
} from './limits.ts'
import {
  dataFrame,
  GO_AWAY,
  goAwayFrame,
  pingFrame,
  RESET,
  replyFrame,
  resetFrame,
  type SpdyFrame,
  SpdyReader,
} from './spdy-frame.ts'
import { EmptyHeaderWriter, type SpdyHeaders } from './spdy-headers.ts'

export interface SpdyOptions {
  readonly idleTimeoutMs: number
  /** Decides on a stream that the client opens, before anything of it is read. False has it refused. */
  readonly accept: (stream: SpdyStream) => boolean
}

/**
 * The server's end of a SPDY/3.1 connection, as far as kubelet and crictl speak it. Their library (moby/spdystream) neither sends nor heeds WINDOW_UPDATE, so
 * there is one flow control, that of TCP: a connection whose streams hold too much unread is not read, and we write when it takes more.
 */
export class SpdyConnection {
  readonly #socket: Duplex
  readonly #options: SpdyOptions
  readonly #reader = new SpdyReader()
  readonly #headers = new EmptyHeaderWriter()
  readonly #streams = new Map<number, SpdyStream>()
  readonly #gone = new AbortController()
  readonly #budget: Budget
  readonly #idle: NodeJS.Timeout
  /** Writers, in the order they came. */
  readonly #waiting: (() => void)[] = []
  #lastId = 0
  #leaving = false
  #heldForInput = false
  #heldForAnswers = false
  #heldPing: NodeJS.Timeout | undefined
  #linger: NodeJS.Timeout | undefined
  #pingId = 2

  constructor(socket: Duplex, options: SpdyOptions) {
    this.#socket = socket
    this.#options = options
    setMaxListeners(0, this.#gone.signal)
    this.#budget = new Budget((held) => {
      this.#heldForInput = held
      this.#hold()
    })
    this.#idle = setTimeout(() => this.#expire(), options.idleTimeoutMs)
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
    socket.on('drain', () => {
      if (this.#heldForAnswers) {
        this.#heldForAnswers = false
        this.#hold()
      }
      this.#grant()
    })
    // A client that closes its half is gone: half closing is what streams are for.
    socket.on('end', () => this.destroy())
    socket.on('error', () => this.destroy())
    socket.on('close', () => this.destroy())
  }

  /** Aborted when the connection ends, whoever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  /** Bytes of the client; also those that came with its request. */
  receive(chunk: Buffer): void {
    if (this.#leaving) return
    this.#idle.refresh()
    // All answers to a chunk go as one.
    this.#socket.cork()
    try {
      for (const frame of this.#reader.push(chunk)) {
        this.#handle(frame)
        if (this.#leaving) return
      }
    } catch {
      this.#leave(GO_AWAY.protocolError)
    } finally {
      this.#socket.uncork()
    }
    if (this.#socket.writableLength > ANSWER_BYTES_MAX) {
      this.#heldForAnswers = true
      this.#hold()
    }
  }

  /** Says goodbye after all that was written; the client then closes. */
  end(): void {
    this.#leave(GO_AWAY.ok)
  }

  /** Without another word. */
  destroy(): void {
    this.#leaving = true
    this.#over()
    clearTimeout(this.#linger)
    this.#socket.destroy()
  }

  /** For a stream: its data, when the client takes more. */
  async writeData(stream: SpdyStream, data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += OUTPUT_PIECE_BYTES) {
      await this.#turn()
      try {
        stream.checkWritable()
        this.#write(dataFrame(stream.id, data.subarray(at, at + OUTPUT_PIECE_BYTES), false))
      } finally {
        this.#grant()
      }
    }
  }

  /** For a stream: the end of what we write on it. */
  writeEnd(stream: SpdyStream): void {
    if (!this.#leaving) this.#write(dataFrame(stream.id, Buffer.alloc(0), true))
  }

  /** For a stream: the end of both its directions. */
  writeReset(stream: SpdyStream, status: number): void {
    if (!this.#leaving) this.#write(resetFrame(stream.id, status))
  }

  /** For a stream: nothing comes or goes on it any more. */
  forget(stream: SpdyStream): void {
    this.#streams.delete(stream.id)
  }

  #handle(frame: SpdyFrame): void {
    switch (frame.type) {
      case 'open':
        this.#open(frame)
        return
      case 'data':
        // Data for a stream that we know no more was under way when it ended.
        this.#streams.get(frame.id)?.receive(frame.data, frame.fin)
        return
      case 'reset':
        this.#streams.get(frame.id)?.lose()
        return
      case 'ping':
        // Even numbers are answers to ours.
        if (frame.id % 2 === 1) this.#answer(pingFrame(frame.id))
        return
      case 'goAway':
        this.#leave(GO_AWAY.ok)
        return
    }
  }

  #open(frame: SpdyFrame & { readonly type: 'open' }): void {
    const { id } = frame
    if (id <= this.#lastId || id % 2 === 0 || frame.unidirectional) {
      this.#streams.get(id)?.lose()
      this.#answer(resetFrame(id, RESET.protocolError))
      return
    }
    this.#lastId = id
    if (this.#streams.size >= STREAMS_MAX) {
      this.#answer(resetFrame(id, RESET.refusedStream))
      return
    }
    const stream = new SpdyStream(this, id, frame.headers, new Inbox(this.#budget))
    this.#streams.set(id, stream)
    if (!this.#options.accept(stream)) {
      this.#streams.delete(id)
      this.#answer(resetFrame(id, RESET.refusedStream))
      return
    }
    // Before anything that accept() has begun can write.
    this.#answer(replyFrame(id, this.#headers.write()))
    if (frame.fin) stream.receive(Buffer.alloc(0), true)
  }

  #answer(frame: Buffer): void {
    this.#socket.write(frame)
  }

  #write(frame: Buffer): void {
    this.#socket.write(frame)
    this.#idle.refresh()
  }

  #turn(): Promise<void> | undefined {
    if (this.#leaving) return undefined
    if (this.#waiting.length === 0 && !this.#socket.writableNeedDrain) return undefined
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  #grant(): void {
    if (this.#leaving || !this.#socket.writableNeedDrain) this.#waiting.shift()?.()
  }

  #hold(): void {
    if (this.#leaving) return
    const held = this.#heldForInput || this.#heldForAnswers
    if (!held) {
      clearInterval(this.#heldPing)
      this.#heldPing = undefined
      this.#socket.resume()
      return
    }
    if (this.#heldPing) return
    this.#socket.pause()
    this.#heldPing = setInterval(() => {
      if (this.#socket.writableNeedDrain) return
      this.#answer(pingFrame(this.#pingId))
      this.#pingId = (this.#pingId % 0x7ffffffe) + 2
    }, HELD_PING_MS)
  }

  #expire(): void {
    this.#leave(GO_AWAY.ok)
    // What waits to be sent has waited for as long as the timeout.
    this.#lingerFor(LINGER_AFTER_ERROR_MS)
  }

  #leave(status: number): void {
    if (this.#leaving) return
    for (const stream of this.#streams.values()) {
      if (!stream.isEnded) this.#answer(resetFrame(stream.id, RESET.cancel))
    }
    this.#leaving = true
    this.#answer(goAwayFrame(this.#lastId, status))
    this.#over()
    this.#socket.end(() => {
      if (!this.#linger) {
        this.#lingerFor(status === GO_AWAY.ok ? LINGER_MS : LINGER_AFTER_ERROR_MS)
      }
    })
    if (status !== GO_AWAY.ok) this.#lingerFor(LINGER_AFTER_ERROR_MS)
    // Read and dropped: unread bytes would have the kernel reset the connection, and the client lose our last words.
    this.#socket.resume()
  }

  #lingerFor(ms: number): void {
    clearTimeout(this.#linger)
    if (!this.#socket.destroyed) this.#linger = setTimeout(() => this.destroy(), ms)
  }

  /** Everyone who waits for the client is told. */
  #over(): void {
    clearTimeout(this.#idle)
    clearInterval(this.#heldPing)
    for (const stream of this.#streams.values()) stream.lose()
    this.#streams.clear()
    for (const resolve of this.#waiting.splice(0)) resolve()
    this.#gone.abort(gone())
  }
}

function gone(): Fault {
  return new Fault('UNAVAILABLE', 'the client has gone')
}

/** One stream of a client, with a direction each way that ends for itself. */
export class SpdyStream {
  readonly id: number
  readonly headers: SpdyHeaders
  readonly input: Inbox
  readonly #connection: SpdyConnection
  #isEnded = false
  #isInputEnded = false
  #isLost = false
  #onLoss: (() => void) | undefined

  constructor(connection: SpdyConnection, id: number, headers: SpdyHeaders, input: Inbox) {
    this.#connection = connection
    this.id = id
    this.headers = headers
    this.input = input
  }

  /** Whether we have said that we write no more. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Resolves when there is room for more; rejects when the client or the stream is gone. */
  write(data: Uint8Array): Promise<void> {
    return this.#connection.writeData(this, data)
  }

  /** We write no more on it. Called twice, or after the stream is lost, it does nothing. */
  end(): void {
    if (this.#isEnded || this.#isLost) return
    this.#isEnded = true
    this.#connection.writeEnd(this)
    if (this.#isInputEnded) this.#connection.forget(this)
  }

  reset(): void {
    if (this.#isLost) return
    this.#connection.writeReset(this, RESET.cancel)
    this.lose()
  }

  /** Calls back when the stream ends before its time: reset by the client, or lost with the connection. */
  onLoss(callback: () => void): void {
    this.#onLoss = callback
    if (this.#isLost) callback()
  }

  checkWritable(): void {
    if (this.#isLost || this.#isEnded) throw gone()
  }

  /** For the connection. */
  receive(data: Buffer, fin: boolean): void {
    if (this.#isInputEnded) {
      this.#connection.writeReset(this, RESET.streamClosed)
      this.lose()
      return
    }
    this.input.push(data)
    if (!fin) return
    this.#isInputEnded = true
    this.input.end()
    if (this.#isEnded) this.#connection.forget(this)
  }

  /** For the connection: the stream is no more. */
  lose(): void {
    if (this.#isLost) return
    this.#isLost = true
    this.#connection.forget(this)
    this.input.fail(gone())
    this.#onLoss?.()
  }
}
