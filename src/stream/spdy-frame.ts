import { Fault } from '../base/fault.ts'
import { CONTROL_BYTES_MAX } from './limits.ts'
import { HeaderReader, type SpdyHeaders } from './spdy-headers.ts'

/** draft-mbelshe-httpbis-spdy-00 (SPDY/3) and what 3.1 adds; the number in the frames is 3 in both. */
const VERSION = 3
const HEAD_BYTES = 8
const CONTROL = 0x80000000
const ID_MAX = 0x7fffffff

export const FLAG_FIN = 1
const FLAG_UNIDIRECTIONAL = 2

const TYPE = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const

export const RESET = { protocolError: 1, refusedStream: 3, cancel: 5, streamClosed: 9 } as const
export const GO_AWAY = { ok: 0, protocolError: 1 } as const

export type SpdyFrame =
  | {
      readonly type: 'open'
      readonly id: number
      readonly headers: SpdyHeaders
      readonly fin: boolean
      readonly unidirectional: boolean
    }
  | { readonly type: 'data'; readonly id: number; readonly data: Buffer; readonly fin: boolean }
  | { readonly type: 'reset'; readonly id: number }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goAway' }

/**
 * Cuts a client's bytes into frames. What does not concern a server that opens no streams and keeps no windows is checked and left out: SYN_REPLY, HEADERS,
 * SETTINGS, WINDOW_UPDATE and unknown types. The content of a data frame comes in as many pieces as it arrives in, so a frame of 16 MiB is not held.
 */
export class SpdyReader {
  readonly #headers = new HeaderReader()
  /** The head, or control frame, that is not all here. */
  #partial: Buffer = Buffer.alloc(0)
  /** The data frame that we are in. */
  #data: { readonly id: number; readonly fin: boolean; left: number } | undefined;

  /** Throws at the first frame that no honest client sends; the connection is of no use then. */
  *push(chunk: Buffer): Generator<SpdyFrame> {
    let rest = this.#partial.length > 0 ? Buffer.concat([this.#partial, chunk]) : chunk
    this.#partial = Buffer.alloc(0)
    for (;;) {
      if (this.#data) {
        const { id, fin } = this.#data
        const data = rest.subarray(0, this.#data.left)
        rest = rest.subarray(data.length)
        this.#data.left -= data.length
        const complete = this.#data.left === 0
        if (complete) this.#data = undefined
        if (data.length > 0 || (complete && fin)) {
          yield { type: 'data', id, data, fin: complete && fin }
        }
        if (!complete) return
      }
      if (rest.length < HEAD_BYTES) break
      const word = rest.readUInt32BE(0)
      const flags = rest.readUInt8(4)
      const length = rest.readUIntBE(5, 3)
      if (word < CONTROL) {
        if (word === 0) throw broken('data for stream 0')
        this.#data = { id: word, fin: (flags & FLAG_FIN) !== 0, left: length }
        rest = rest.subarray(HEAD_BYTES)
        continue
      }
      if (((word >>> 16) & 0x7fff) !== VERSION) throw broken('a frame of another version')
      if (length > CONTROL_BYTES_MAX) {
        throw broken(`a control frame of more than ${CONTROL_BYTES_MAX} bytes`)
      }
      if (rest.length < HEAD_BYTES + length) break
      const payload = rest.subarray(HEAD_BYTES, HEAD_BYTES + length)
      rest = rest.subarray(HEAD_BYTES + length)
      const frame = this.#control(word & 0xffff, flags, payload)
      if (frame) yield frame
    }
    // A copy: a few bytes must not keep a large chunk in memory.
    this.#partial = Buffer.from(rest)
  }

  #control(type: number, flags: number, payload: Buffer): SpdyFrame | undefined {
    switch (type) {
      case TYPE.synStream: {
        if (payload.length < 10) throw broken('a SYN_STREAM that is too short')
        const id = streamId(payload)
        return {
          type: 'open',
          id,
          headers: this.#headers.read(payload.subarray(10)),
          fin: (flags & FLAG_FIN) !== 0,
          unidirectional: (flags & FLAG_UNIDIRECTIONAL) !== 0,
        }
      }
      case TYPE.synReply:
      case TYPE.headers: {
        if (payload.length < 4) throw broken('headers that are too short')
        streamId(payload)
        // They are part of the one zlib stream.
        this.#headers.read(payload.subarray(4))
        return undefined
      }
      case TYPE.rstStream: {
        if (payload.length !== 8) throw broken('a RST_STREAM of another length')
        return { type: 'reset', id: streamId(payload) }
      }
      case TYPE.settings: {
        if (payload.length < 4 || payload.readUInt32BE(0) * 8 + 4 !== payload.length) {
          throw broken('a SETTINGS of another length')
        }
        return undefined
      }
      case TYPE.ping: {
        if (payload.length !== 4) throw broken('a PING of another length')
        return { type: 'ping', id: payload.readUInt32BE(0) }
      }
      case TYPE.goAway: {
        if (payload.length !== 8) throw broken('a GOAWAY of another length')
        return { type: 'goAway' }
      }
      case TYPE.windowUpdate: {
        if (payload.length !== 8) throw broken('a WINDOW_UPDATE of another length')
        return undefined
      }
      default:
        return undefined
    }
  }
}

function streamId(payload: Buffer): number {
  const id = payload.readUInt32BE(0) & ID_MAX
  if (id === 0) throw broken('a control frame for stream 0')
  return id
}

function broken(what: string): Fault {
  return new Fault('INVALID_ARGUMENT', `the client sent ${what}`)
}

export function dataFrame(id: number, data: Uint8Array, fin: boolean): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + data.length)
  frame.writeUInt32BE(id, 0)
  frame.writeUInt8(fin ? FLAG_FIN : 0, 4)
  frame.writeUIntBE(data.length, 5, 3)
  frame.set(data, HEAD_BYTES)
  return frame
}

export function replyFrame(id: number, headers: Buffer): Buffer {
  return control(TYPE.synReply, number(id), headers)
}

export function resetFrame(id: number, status: number): Buffer {
  return control(TYPE.rstStream, number(id), number(status))
}

export function pingFrame(id: number): Buffer {
  return control(TYPE.ping, number(id))
}

export function goAwayFrame(lastId: number, status: number): Buffer {
  return control(TYPE.goAway, number(lastId), number(status))
}

function control(type: number, ...parts: Buffer[]): Buffer {
  const payload = Buffer.concat(parts)
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32BE(CONTROL + VERSION * 0x10000 + type, 0)
  head.writeUIntBE(payload.length, 5, 3)
  return Buffer.concat([head, payload])
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
