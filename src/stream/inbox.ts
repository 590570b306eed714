import { FRAME_COST, INPUT_BYTES_MAX } from './limits.ts'

const COPY_BYTES = 4096

/** Counts what all inboxes of one connection hold, and has the connection held while that is too much. */
export class Budget {
  readonly #hold: (held: boolean) => void
  #used = 0
  #held = false

  constructor(hold: (held: boolean) => void) {
    this.#hold = hold
  }

  get used(): number {
    return this.#used
  }

  take(bytes: number): void {
    this.#used += bytes + FRAME_COST
    if (this.#held || this.#used <= INPUT_BYTES_MAX) return
    this.#held = true
    this.#hold(true)
  }

  give(bytes: number): void {
    this.#used -= bytes + FRAME_COST
    if (!this.#held || this.#used > INPUT_BYTES_MAX) return
    this.#held = false
    this.#hold(false)
  }
}

/** What a client has sent on one stream and nobody has read yet. For one reader. */
export class Inbox implements AsyncIterable<Buffer> {
  readonly #budget: Budget
  #queue: Buffer[] = []
  #ended = false
  #error: Error | undefined
  #discarding = false
  #wake: (() => void) | undefined

  constructor(budget: Budget) {
    this.#budget = budget
  }

  push(data: Buffer): void {
    if (data.length === 0 || this.#ended || this.#error || this.#discarding) return
    // A few bytes must not keep the whole chunk that they came in.
    this.#queue.push(data.length < COPY_BYTES ? Buffer.from(data) : data)
    this.#budget.take(data.length)
    this.#wakeUp()
  }

  /** The client will send no more: the reader gets what is here, and then the end. */
  end(): void {
    this.#ended = true
    this.#wakeUp()
  }

  /** The client is gone: the reader gets what is here, and then the error. An end that was said before stands. */
  fail(error: Error): void {
    this.#error ??= error
    this.#wakeUp()
  }

  /** Nobody wants it any more. What comes is dropped, so that it holds up nothing else of the connection. */
  discard(): void {
    this.#discarding = true
    for (const data of this.#queue) this.#budget.give(data.length)
    this.#queue = []
    this.#wakeUp()
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return {
      next: () => this.#next(),
      return: () => {
        this.discard()
        return Promise.resolve({ done: true, value: undefined })
      },
    }
  }

  async #next(): Promise<IteratorResult<Buffer>> {
    for (;;) {
      const data = this.#queue.shift()
      if (data !== undefined) {
        this.#budget.give(data.length)
        return { done: false, value: data }
      }
      if (this.#ended || this.#discarding) return { done: true, value: undefined }
      if (this.#error) throw this.#error
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
}
