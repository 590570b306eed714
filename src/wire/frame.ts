import { FRAME } from './tags.ts'

/** What follows a frame's head at most, from a client: a request, and data for a process. native/monitor/connection.cc has the same. */
export const REQUEST_BYTES_MAX = 1024 * 1024
export const DATA_BYTES_MAX = 64 * 1024
/** A monitor's own frames: an output frame is one read of a pipe, a reply a status of many containers. */
const REPLY_BYTES_MAX = 16 * 1024 * 1024

const HEAD_BYTES = 5

export type FrameName = keyof typeof FRAME

export interface Frame {
  /** A number of FRAME. */
  readonly type: number
  readonly payload: Buffer
}

/** `u32 length of the payload, u8 type, payload`. */
export function encodeFrame(name: FrameName, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + payload.length)
  frame.writeUInt32LE(payload.length, 0)
  frame.writeUInt8(FRAME[name], 4)
  frame.set(payload, HEAD_BYTES)
  return frame
}

/** The frames that carry these bytes to a process's stdin, in order. */
export function* stdinFrames(data: Uint8Array): Generator<Buffer> {
  for (let at = 0; at < data.length; at += DATA_BYTES_MAX) {
    yield encodeFrame('stdin', data.subarray(at, at + DATA_BYTES_MAX))
  }
}

/** Cuts a stream of bytes into frames, wherever its pieces begin and end. A payload is good until the next call only if copied by the caller. */
export class FrameReader {
  #parts: Buffer[] = []
  #size = 0
  readonly #payloadBytesMax: number

  constructor(payloadBytesMax = REPLY_BYTES_MAX) {
    this.#payloadBytesMax = payloadBytesMax
  }

  /** All frames that are whole with these bytes. A length beyond the limit throws RangeError: the other side is none of ours. */
  push(bytes: Buffer): Frame[] {
    this.#parts.push(bytes)
    this.#size += bytes.length
    const frames: Frame[] = []
    for (;;) {
      const head = this.#peek()
      if (head === undefined) return frames
      const length = head.readUInt32LE(0)
      if (length > this.#payloadBytesMax) throw new RangeError(`a frame of ${length} bytes`)
      if (this.#size < HEAD_BYTES + length) return frames
      const whole = this.#take(HEAD_BYTES + length)
      frames.push({ type: whole.readUInt8(4), payload: whole.subarray(HEAD_BYTES) })
    }
  }

  /** A buffer that begins with the next frame's head; nothing is taken. */
  #peek(): Buffer | undefined {
    if (this.#size < HEAD_BYTES) return undefined
    const first = this.#parts[0]
    if (first !== undefined && first.length >= HEAD_BYTES) return first
    this.#parts = [Buffer.concat(this.#parts)]
    return this.#parts[0]
  }

  #take(size: number): Buffer {
    let first = this.#parts[0] ?? Buffer.alloc(0)
    if (first.length < size) {
      first = Buffer.concat(this.#parts)
      this.#parts = [first]
    }
    const rest = first.subarray(size)
    if (rest.length > 0) this.#parts[0] = rest
    else this.#parts.shift()
    this.#size -= size
    return first.subarray(0, size)
  }
}
