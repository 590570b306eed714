/**
 * A client of the CRI that costs little: gRPC is HTTP/2 with five bytes before each message. That of @grpc/grpc-js takes up to a millisecond a call, which
 * would be counted to each runtime; kubelet's own is compiled.
 */
import { type ClientHttp2Session, connect } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { criServices } from '../src/cri/wire.ts'
import type { Calls, Given } from '../test/lib/cri.ts'

/** Of a message: a flag for compression, its length. */
const PREFIX_BYTES = 5
const CALL_MS = 60_000
/** A list of all that bench/cri.ts starts. */
const WINDOW_BYTES = 64 * 1024 * 1024

export class BenchClient {
  readonly #socket: string
  readonly #methods = new Map(
    Object.values(criServices()).flatMap((service) => Object.entries(service)),
  )
  #session: ClientHttp2Session | undefined

  constructor(socket: string) {
    this.#socket = socket
  }

  /** An error tells the runtime's own text. */
  async call<Name extends keyof Calls>(
    name: Name,
    request: Given<Calls[Name][0]> = {} as Given<Calls[Name][0]>,
  ): Promise<Calls[Name][1]> {
    const reply = await this.ask(name, request)
    return this.#method(name).responseDeserialize(reply) as Calls[Name][1]
  }

  /** The answer as it comes: to decode one of many containers in JavaScript takes longer than the runtime does. */
  async ask<Name extends keyof Calls>(
    name: Name,
    request: Given<Calls[Name][0]> = {} as Given<Calls[Name][0]>,
  ): Promise<Buffer> {
    const method = this.#method(name)
    const message = method.requestSerialize(request)
    const prefix = Buffer.alloc(PREFIX_BYTES)
    prefix.writeUInt32BE(message.length, 1)
    const reply = await this.#post(method.path, Buffer.concat([prefix, message]))
    return reply.subarray(PREFIX_BYTES)
  }

  #method(name: string) {
    const method = this.#methods.get(name)
    if (!method) throw new Error(`no method ${name}`)
    return method
  }

  close(): void {
    this.#session?.destroy()
  }

  #post(path: string, body: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const stream = this.#connection().request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      const parts: Buffer[] = []
      let status: unknown
      let text: unknown
      const take = (headers: Readonly<Record<string, unknown>>): void => {
        status = headers['grpc-status'] ?? status
        text = headers['grpc-message'] ?? text
      }
      // An error without a message comes in the one, an end in the other.
      stream.on('response', take)
      stream.on('trailers', take)
      stream.on('data', (part: Buffer) => parts.push(part))
      stream.on('error', reject)
      stream.on('close', () => {
        if (Number(status ?? -1) === 0) resolve(Buffer.concat(parts))
        else reject(new Error(`${path}: ${decodeURIComponent(String(text ?? 'no answer'))}`))
      })
      stream.setTimeout(CALL_MS, () => stream.destroy(new Error(`${path}: no answer in time`)))
      stream.end(body)
    })
  }

  #connection(): ClientHttp2Session {
    if (this.#session && !this.#session.destroyed && !this.#session.closed) return this.#session
    const session = connect('http://localhost', {
      createConnection: () => connectSocket({ path: this.#socket }),
      settings: { initialWindowSize: WINDOW_BYTES },
    })
    session.on('connect', () => session.setLocalWindowSize(WINDOW_BYTES))
    // Told by the calls.
    session.on('error', () => {})
    this.#session = session
    return session
  }
}
