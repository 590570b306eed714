/** Each piece that goes on costs a write, a message to another thread and turns of the event loop; a socket gives 64 KiB at most. */
const GATHER_BYTES = 512 * 1024

/** Makes the pieces that a network gives larger, and hands them on in order. */
export class Gathered {
  readonly #consume: (chunk: Uint8Array) => Promise<void>
  /** Bytes that are still to come, held ones included: the last piece waits for no others. */
  #left: number
  #buffer: Buffer | undefined
  #held = 0

  constructor(bytes: number, consume: (chunk: Uint8Array) => Promise<void>) {
    this.#left = bytes
    this.#consume = consume
  }

  /** Bytes taken and not handed on yet. */
  get held(): number {
    return this.#held
  }

  async add(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      const wanted = Math.min(GATHER_BYTES, Math.max(this.#left, 1))
      if (this.#held === 0 && chunk.length - at >= wanted) {
        this.#left -= chunk.length - at
        await this.#consume(chunk.subarray(at))
        return
      }
      this.#buffer ??= Buffer.allocUnsafeSlow(wanted)
      const count = Math.min(chunk.length - at, wanted - this.#held)
      this.#buffer.set(chunk.subarray(at, at + count), this.#held)
      this.#held += count
      at += count
      if (this.#held === wanted) await this.flush()
    }
  }

  /** Hands on what is held; its memory is lent until then. */
  async flush(): Promise<void> {
    if (this.#buffer === undefined || this.#held === 0) return
    const piece = this.#buffer.subarray(0, this.#held)
    this.#held = 0
    this.#left -= piece.length
    await this.#consume(piece)
  }
}
