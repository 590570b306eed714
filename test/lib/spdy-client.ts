/**
 * A SPDY/3.1 client for tests. But for the dictionary it shares no code with src/stream: headers go through one deflater and one inflater for the whole
 * connection, as Kubernetes' clients have them.
 */
import http from 'node:http'
import https from 'node:https'
import type { Duplex } from 'node:stream'
import { createDeflate, createInflate, constants as zlib } from 'node:zlib'
import { SPDY_DICTIONARY } from '../../src/stream/spdy-dictionary.ts'

export interface Upgraded {
  readonly socket: Duplex
  readonly head: Buffer
  readonly headers: http.IncomingHttpHeaders
}

export interface Refused {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** The request of kubelet: POST with an upgrade. */
export function upgrade(
  url: string,
  protocols: readonly string[],
  options: { method?: string; upgrade?: string; tls?: https.RequestOptions } = {},
): Promise<Upgraded | Refused> {
  return new Promise((resolve, reject) => {
    const request = (url.startsWith('https:') ? https : http).request(url, {
      method: options.method ?? 'POST',
      agent: false,
      ...options.tls,
      headers: {
        connection: 'Upgrade',
        upgrade: options.upgrade ?? 'SPDY/3.1',
        ...(protocols.length > 0 ? { 'x-stream-protocol-version': protocols.join(', ') } : {}),
      },
    })
    request.on('upgrade', (response, socket, head) =>
      resolve({ socket, head, headers: response.headers }),
    )
    request.on('response', (response) => {
      let body = ''
      response.on('data', (data) => {
        body += data
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      )
    })
    request.on('error', reject)
    request.end()
  })
}

/** Connects, or fails with what the server said. */
export async function connectSpdy(
  url: string,
  protocols: readonly string[],
  options: Parameters<typeof upgrade>[2] = {},
): Promise<SpdyClient> {
  const answer = await upgrade(url, protocols, options)
  if ('status' in answer) throw new Error(`${answer.status}: ${answer.body}`)
  return new SpdyClient(answer.socket, answer.head)
}

export interface ClientStream {
  readonly id: number
  readonly data: Buffer[]
  /** Bytes received; `data` is not kept where the stream only counts. */
  bytes: number
  isReplied: boolean
  isEnded: boolean
  isReset: boolean
}

const FIN = 1

export class SpdyClient {
  readonly socket: Duplex
  readonly streams = new Map<number, ClientStream>()
  readonly pongs: number[] = []
  /** Pings of the server. */
  pings = 0
  goAway: number | undefined
  isClosed = false
  keepsData = true
  /** `1 data`, `3 end`: what came on which stream, in order; data of one stream in a row once. */
  readonly order: string[] = []
  #nextId = 1
  #rest: Buffer = Buffer.alloc(0)
  readonly #deflate = createDeflate({ dictionary: SPDY_DICTIONARY, level: 9 })
  readonly #inflate = createInflate({ dictionary: SPDY_DICTIONARY, flush: zlib.Z_SYNC_FLUSH })
  #deflating: Promise<unknown> = Promise.resolve()

  constructor(socket: Duplex, head: Buffer) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('close', () => {
      this.isClosed = true
    })
    socket.on('end', () => socket.end())
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    this.#inflate.on('error', () => socket.destroy())
    if (head.length > 0) this.#read(head)
  }

  /** Opens a stream, and waits for the answer. Other calls may open more at the same time. */
  async open(headers: Readonly<Record<string, string>>, flags = 0): Promise<ClientStream> {
    const stream = await this.openUnanswered(headers, flags)
    while (!stream.isReplied && !stream.isReset) {
      if (this.isClosed) throw new Error('the connection is closed')
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return stream
  }

  async openUnanswered(
    headers: Readonly<Record<string, string>>,
    flags = 0,
    id = this.#nextId,
  ): Promise<ClientStream> {
    if (id === this.#nextId) this.#nextId += 2
    const stream = newStream(id)
    if (!this.streams.has(id)) this.streams.set(id, stream)
    const before = this.#deflating
    const block = before.then(() => this.deflate(headerBlock(headers)))
    const sent = block.then((bytes) => {
      const payload = Buffer.alloc(10)
      payload.writeUInt32BE(id)
      this.socket.write(controlFrame(1, flags, Buffer.concat([payload, bytes])))
    })
    this.#deflating = sent
    await sent
    return stream
  }

  /** Opens streams in one go, with headers that are stored and not deflated; for a connection that opens them in no other way. */
  openStored(
    count: number,
    headers: (i: number) => Readonly<Record<string, string>>,
  ): ClientStream[] {
    const frames: Buffer[] = []
    const opened: ClientStream[] = []
    for (let i = 0; i < count; i++) {
      const stream = newStream(this.#nextId)
      const id = Buffer.alloc(10)
      id.writeUInt32BE(stream.id)
      const block = storedBlock(headerBlock(headers(i)))
      const begin = this.#nextId === 1 ? Buffer.from([0x78, 0x01]) : Buffer.alloc(0)
      this.#nextId += 2
      this.streams.set(stream.id, stream)
      frames.push(controlFrame(1, 0, Buffer.concat([id, begin, block])))
      opened.push(stream)
    }
    this.socket.write(Buffer.concat(frames))
    return opened
  }

  deflate(plain: Buffer): Promise<Buffer> {
    return new Promise((resolve) => {
      const parts: Buffer[] = []
      const keep = (part: Buffer): void => {
        parts.push(part)
      }
      this.#deflate.on('data', keep)
      this.#deflate.write(plain)
      this.#deflate.flush(zlib.Z_SYNC_FLUSH, () => {
        this.#deflate.off('data', keep)
        resolve(Buffer.concat(parts))
      })
    })
  }

  write(stream: ClientStream, data: string | Buffer, fin = false): boolean {
    return this.socket.write(clientDataFrame(stream.id, Buffer.from(data), fin))
  }

  end(stream: ClientStream): void {
    this.write(stream, '', true)
  }

  reset(stream: ClientStream): void {
    const payload = Buffer.alloc(8)
    payload.writeUInt32BE(stream.id)
    payload.writeUInt32BE(5, 4)
    this.socket.write(controlFrame(3, 0, payload))
  }

  ping(id: number): void {
    const payload = Buffer.alloc(4)
    payload.writeUInt32BE(id)
    this.socket.write(controlFrame(6, 0, payload))
  }

  text(stream: ClientStream): string {
    return Buffer.concat(stream.data).toString()
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk])
    while (this.#rest.length >= 8) {
      const length = this.#rest.readUInt32BE(4) & 0xffffff
      if (this.#rest.length < 8 + length) return
      const head = this.#rest.readUInt32BE(0)
      const flags = this.#rest[4] ?? 0
      const payload = this.#rest.subarray(8, 8 + length)
      this.#rest = this.#rest.subarray(8 + length)
      this.#frame(head, flags, payload)
    }
  }

  #note(what: string): void {
    if (this.order.at(-1) !== what) this.order.push(what)
  }

  #frame(head: number, flags: number, payload: Buffer): void {
    if (head < 0x80000000) {
      const stream = this.streams.get(head)
      if (stream === undefined) throw new Error(`data on stream ${head}, which was not opened`)
      if (!stream.isReplied) throw new Error(`data on stream ${head} before its reply`)
      if (stream.isEnded || stream.isReset) throw new Error(`data on stream ${head} after its end`)
      stream.bytes += payload.length
      if (this.keepsData) stream.data.push(payload)
      if (payload.length > 0) this.#note(`${head} data`)
      if ((flags & FIN) === 0) return
      stream.isEnded = true
      this.#note(`${head} end`)
      return
    }
    if (head >>> 16 !== 0x8003) throw new Error('another version')
    const number = payload.readUInt32BE(0)
    const stream = this.streams.get(number)
    switch (head & 0xffff) {
      case 2: {
        if (stream === undefined || stream.isReplied) throw new Error(`a reply to ${number}`)
        // Replies must inflate as one stream, to four zero bytes each.
        this.#inflate.once('data', (plain: Buffer) => {
          if (!plain.equals(Buffer.alloc(4))) throw new Error('headers in a reply')
        })
        this.#inflate.write(payload.subarray(4))
        stream.isReplied = true
        return
      }
      case 3:
        if (stream) stream.isReset = true
        return
      case 6:
        if (number % 2 === 1) this.pongs.push(number)
        else this.pings++
        return
      case 7:
        this.goAway = payload.readUInt32BE(4)
        // Kubernetes' clients close when they have read it.
        this.socket.end()
        return
      default:
        throw new Error(`a frame of type ${head & 0xffff}`)
    }
  }
}

function newStream(id: number): ClientStream {
  return { id, data: [], bytes: 0, isReplied: false, isEnded: false, isReset: false }
}

/** A stored block of deflate and an empty one, as after a flush. */
function storedBlock(plain: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt16LE(plain.length, 1)
  head.writeUInt16LE(0xffff - plain.length, 3)
  return Buffer.concat([head, plain, Buffer.from([0, 0, 0, 0xff, 0xff])])
}

export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const entries = Object.entries(headers)
  const text = (value: string): Buffer[] => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(Buffer.byteLength(value))
    return [length, Buffer.from(value)]
  }
  const count = Buffer.alloc(4)
  count.writeUInt32BE(entries.length)
  return Buffer.concat([
    count,
    ...entries.flatMap(([name, value]) => [...text(name), ...text(value)]),
  ])
}

export function controlFrame(type: number, flags: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt16BE(0x8003, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt32BE(payload.length, 4)
  head.writeUInt8(flags, 4)
  return Buffer.concat([head, payload])
}

export function clientDataFrame(id: number, data: Buffer, fin = false): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(id, 0)
  head.writeUInt32BE(data.length, 4)
  head.writeUInt8(fin ? FIN : 0, 4)
  return Buffer.concat([head, data])
}
