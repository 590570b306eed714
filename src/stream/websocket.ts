import { setMaxListeners } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import { Fault } from '../base/fault.ts'
import { Budget, Inbox } from './inbox.ts'
import {
  ANSWER_BYTES_MAX,
  HELD_PING_MS,
  LINGER_MS,
  MESSAGE_BYTES_MAX,
  OUTPUT_PIECE_BYTES,
} from './limits.ts'

/** RFC 6455, 7.4.1. */
const CLOSE = { normal: 1000, goingAway: 1001, protocolError: 1002, invalidPayload: 1007 } as const
/** v5: closes the channel whose number follows. */
const CLOSE_SIGNAL = 255
const ZERO = '0'.charCodeAt(0)

/** Compression would cost memory for each connection and gain nothing on the way that these connections go. */
const OPTIONS = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: MESSAGE_BYTES_MAX,
  closeTimeout: LINGER_MS,
}
const server = new WebSocketServer(OPTIONS)

/**
 * The subprotocol of a request that is being accepted. Past the library, which takes no name with a slash, as the RFC would have it: Kubernetes' tunnel has one.
 */
let chosen = ''
server.on('headers', (headers) => {
  if (chosen !== '') headers.push(`Sec-WebSocket-Protocol: ${chosen}`)
})

/**
 * Turns a request into a WebSocket with the subprotocol, '' for none. undefined where it is no valid handshake, which the client has been told.
 */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
): WebSocket | undefined {
  delete request.headers['sec-websocket-protocol']
  chosen = protocol
  let accepted: WebSocket | undefined
  // Calls back before it returns, or never.
  server.handleUpgrade(request, socket, head, (webSocket) => {
    accepted = webSocket
  })
  chosen = ''
  return accepted
}

/** The subprotocols that a client offers, in its order. */
export function offeredProtocols(request: IncomingMessage): string[] {
  return (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}

export interface ChannelOptions {
  readonly idleTimeoutMs: number
  /** Each message is base64 behind a digit, as browsers wanted it once. */
  readonly isBase64: boolean
  /** The client can close a channel: half closing of stdin. */
  readonly closes: boolean
  /** The channels that the client may send on. What comes on another is dropped. */
  readonly readable: readonly number[]
}

/** Kubernetes' channels over a WebSocket: the first byte of each message says whose it is. */
export class ChannelSocket {
  readonly #socket: WebSocket
  readonly #options: ChannelOptions
  readonly #inputs = new Map<number, Inbox>()
  readonly #gone = new AbortController()
  readonly #idle: NodeJS.Timeout
  /** Bytes of messages that wait for the client to take them: one of each writer. */
  #sending = 0
  #heldPing: NodeJS.Timeout | undefined

  constructor(socket: WebSocket, options: ChannelOptions) {
    this.#socket = socket
    this.#options = options
    setMaxListeners(0, this.#gone.signal)
    const budget = new Budget((held) => this.#hold(held))
    for (const channel of options.readable) this.#inputs.set(channel, new Inbox(budget))
    this.#idle = setTimeout(() => this.destroy(), options.idleTimeoutMs)
    socket.on('message', (message: Buffer) => this.#receive(message))
    socket.on('ping', () => {
      this.#idle.refresh()
      // The library has put its pong behind the others: a client that never reads them is done with.
      if (socket.bufferedAmount - this.#sending > ANSWER_BYTES_MAX) this.destroy()
    })
    socket.on('pong', () => this.#idle.refresh())
    socket.on('error', () => this.destroy())
    socket.on('close', () => this.#over())
  }

  /** Aborted when the connection ends, whoever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  input(channel: number): Inbox {
    const inbox = this.#inputs.get(channel)
    if (inbox === undefined) throw new Fault('INTERNAL', `channel ${channel} is not readable`)
    return inbox
  }

  /** Resolves when the kernel has taken it; rejects when the client is gone. No bytes are a message too. */
  async write(channel: number, data: Uint8Array): Promise<void> {
    let at = 0
    do {
      await this.#send(channel, data.subarray(at, at + OUTPUT_PIECE_BYTES))
      at += OUTPUT_PIECE_BYTES
    } while (at < data.length)
  }

  /** Says goodbye after all that was written. */
  end(): void {
    this.#leave(CLOSE.normal)
  }

  /** Without another word. */
  destroy(): void {
    this.#over()
    this.#socket.terminate()
  }

  #send(channel: number, data: Uint8Array): Promise<void> {
    const { isBase64 } = this.#options
    const message = isBase64
      ? String.fromCharCode(ZERO + channel) + Buffer.from(data).toString('base64')
      : Buffer.concat([Buffer.from([channel]), data])
    return new Promise((resolve, reject) => {
      if (this.#gone.signal.aborted) {
        reject(gone())
        return
      }
      this.#sending += message.length
      this.#socket.send(message, { binary: !isBase64 }, (error) => {
        this.#sending -= message.length
        if (error) {
          reject(gone())
          return
        }
        this.#idle.refresh()
        resolve()
      })
    })
  }

  #receive(message: Buffer): void {
    if (this.#gone.signal.aborted) return
    this.#idle.refresh()
    const [first, second] = message
    if (first === undefined) return
    if (this.#options.closes && first === CLOSE_SIGNAL) {
      if (message.length !== 2 || second === undefined) this.#leave(CLOSE.protocolError)
      else this.#inputs.get(second)?.end()
      return
    }
    const content = message.subarray(1)
    const input = this.#inputs.get(this.#options.isBase64 ? first - ZERO : first)
    if (input === undefined) return
    if (!this.#options.isBase64) {
      input.push(content)
      return
    }
    const text = content.toString('latin1')
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) {
      this.#leave(CLOSE.invalidPayload)
      return
    }
    input.push(Buffer.from(text, 'base64'))
  }

  #hold(held: boolean): void {
    if (this.#gone.signal.aborted) return
    if (!held) {
      clearInterval(this.#heldPing)
      this.#socket.resume()
      return
    }
    this.#socket.pause()
    this.#heldPing = setInterval(() => {
      if (this.#socket.bufferedAmount === 0) this.#socket.ping()
    }, HELD_PING_MS)
  }

  #leave(code: number): void {
    this.#over()
    if (this.#socket.readyState !== WebSocket.OPEN) return
    // The client's answer has to be read.
    this.#socket.resume()
    this.#socket.close(code)
  }

  #over(): void {
    clearTimeout(this.#idle)
    clearInterval(this.#heldPing)
    for (const input of this.#inputs.values()) input.fail(gone())
    this.#gone.abort(gone())
  }
}

function gone(): Fault {
  return new Fault('UNAVAILABLE', 'the client has gone')
}
