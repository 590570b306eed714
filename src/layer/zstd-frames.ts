import { Fault } from '../base/fault.ts'
import { damaged } from './tar-header.ts'

/** RFC 8878: the magic numbers of a frame, and of a skippable one (the last digit is any). */
const MAGIC = 0xfd2fb528
const SKIPPABLE = 0x184d2a50

const FRAME_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

export interface FramePart {
  readonly bytes: Buffer
  /** The frame ends with it. */
  readonly isLast: boolean
}

type State = 'magic' | 'descriptor' | 'header' | 'block' | 'skip' | 'skipSize'

/**
 * Walks over a zstd stream without decoding it: where its frames begin and end, and what window each wants. A decoder allocates the window
 * before it has seen a single block, so this looks first.
 */
export class ZstdFrames {
  readonly #windowBytesMax: number
  #state: State = 'magic'
  #held = Buffer.alloc(0)
  #wanted = 4
  #skip = 0
  #isLast = false
  #hasChecksum = false
  #isSkippable = false

  constructor(windowBytesMax: number) {
    this.#windowBytesMax = windowBytesMax
  }

  /**
   * Refuses what no decoder should be given. Returns the bytes of frames, cut where one ends, without the skippable ones; they are
   * slices of the chunk.
   */
  push(chunk: Buffer): FramePart[] {
    const parts: FramePart[] = []
    let from = 0
    for (let at = 0; at < chunk.length; ) {
      const wasInFrame = this.#isInFrame
      if (this.#state === 'skip') {
        const count = Math.min(this.#skip, chunk.length - at)
        this.#skip -= count
        at += count
        if (this.#skip === 0) this.#afterSkip()
      } else {
        const count = Math.min(this.#wanted - this.#held.length, chunk.length - at)
        this.#held = Buffer.concat([this.#held, chunk.subarray(at, at + count)])
        at += count
        if (this.#held.length === this.#wanted) {
          const bytes = this.#held
          this.#held = Buffer.alloc(0)
          this.#take(bytes)
        }
      }
      if (!wasInFrame && this.#isInFrame) {
        // The magic number may have come in two chunks.
        parts.push({ bytes: FRAME_MAGIC, isLast: false })
        from = at
      } else if (wasInFrame && !this.#isInFrame) {
        parts.push({ bytes: chunk.subarray(from, at), isLast: true })
      }
    }
    if (this.#isInFrame && from < chunk.length) {
      parts.push({ bytes: chunk.subarray(from), isLast: false })
    }
    return parts
  }

  /** After the magic number of a frame that is not to be skipped. */
  get #isInFrame(): boolean {
    return this.#state !== 'magic' && !this.#isSkippable
  }

  /** The stream has ended: in the middle of a frame it is cut off. */
  finish(): void {
    if (this.#state !== 'magic' || this.#held.length > 0) {
      throw damaged('its zstd stream ends in the middle of a frame')
    }
  }

  #expect(state: State, bytes: number): void {
    this.#state = state
    this.#wanted = bytes
  }

  #take(bytes: Buffer): void {
    switch (this.#state) {
      case 'magic': {
        const magic = bytes.readUInt32LE()
        this.#isSkippable = (magic & 0xfffffff0) >>> 0 === SKIPPABLE
        if (this.#isSkippable) {
          this.#expect('skipSize', 4)
          return
        }
        if (magic !== MAGIC) throw damaged('what follows a zstd frame is no other frame')
        this.#expect('descriptor', 1)
        return
      }
      case 'skipSize':
        this.#isLast = true
        this.#hasChecksum = false
        this.#skipBytes(bytes.readUInt32LE())
        return
      case 'descriptor':
        this.#descriptor(bytes[0] ?? 0)
        return
      case 'header':
        this.#window(bytes)
        this.#expect('block', 3)
        return
      default: {
        const header = bytes.readUIntLE(0, 3)
        this.#isLast = (header & 1) === 1
        const type = (header >> 1) & 3
        if (type === 3) throw damaged('a zstd block has the reserved type')
        // RLE: one byte stands for the whole block.
        this.#skipBytes(type === 1 ? 1 : header >> 3)
      }
    }
  }

  #skipBytes(count: number): void {
    this.#skip = count
    this.#state = 'skip'
    if (count === 0) this.#afterSkip()
  }

  #afterSkip(): void {
    if (!this.#isLast) {
      this.#expect('block', 3)
      return
    }
    if (this.#hasChecksum) {
      this.#hasChecksum = false
      this.#skipBytes(4)
      return
    }
    this.#expect('magic', 4)
  }

  #flags = 0

  #descriptor(flags: number): void {
    if ((flags & 3) !== 0) {
      throw new Fault(
        'UNIMPLEMENTED',
        'cannot read the archive: its zstd stream needs a dictionary',
      )
    }
    if ((flags & 8) !== 0) throw damaged('a zstd frame sets a reserved bit')
    this.#flags = flags
    this.#hasChecksum = (flags & 4) !== 0
    const single = (flags & 32) !== 0
    const sizeBytes = [single ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0
    const wanted = sizeBytes + (single ? 0 : 1)
    this.#expect('header', wanted)
  }

  #window(header: Buffer): void {
    let window: number
    if ((this.#flags & 32) === 0) {
      const byte = header[0] ?? 0
      const base = 2 ** (10 + (byte >> 3))
      window = base + (base / 8) * (byte & 7)
    } else {
      // A single segment: the window is the content.
      window =
        header.length === 8 ? Number(header.readBigUInt64LE()) : header.readUIntLE(0, header.length)
      if (header.length === 2) window += 256
    }
    if (window > this.#windowBytesMax) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `the archive is refused: its zstd stream wants a window of ${window} bytes, more than ${this.#windowBytesMax}`,
      )
    }
  }
}
