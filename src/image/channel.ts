/**
 * Hands chunks from a producer that pushes to a consumer that iterates, one at a time: `push` resolves when the consumer has taken the
 * chunk and asks for more, so a slow consumer slows the producer and nothing piles up.
 */
export class Channel implements AsyncIterable<Uint8Array> {
  #waiting: { chunk: Uint8Array; taken: () => void } | undefined
  /** Of the chunk that the consumer has in its hands. */
  #taken: (() => void) | undefined
  #wake: (() => void) | undefined
  #end: { error: unknown } | undefined
  #isLeft = false

  /** After the consumer has left, chunks are dropped: it knows why it left, and says so itself. */
  async push(chunk: Uint8Array): Promise<void> {
    if (this.#isLeft) return
    await new Promise<void>((taken) => {
      this.#waiting = { chunk, taken }
      this.#wake?.()
    })
  }

  /** The consumer sees the end, or the error. */
  end(error?: unknown): void {
    this.#end ??= { error }
    this.#wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const waiting = this.#waiting
        if (waiting !== undefined) {
          this.#waiting = undefined
          this.#taken = waiting.taken
          try {
            yield waiting.chunk
          } finally {
            waiting.taken()
          }
        } else if (this.#end !== undefined) {
          if (this.#end.error !== undefined) throw this.#end.error
          return
        } else {
          await new Promise<void>((wake) => {
            this.#wake = wake
          })
          this.#wake = undefined
        }
      }
    } finally {
      this.leave()
    }
  }

  /** The consumer reads no more: a producer that waits goes on. */
  leave(): void {
    this.#isLeft = true
    this.#waiting?.taken()
    this.#waiting = undefined
    // It may never come back from its last chunk.
    this.#taken?.()
  }
}
