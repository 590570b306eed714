import { randomBytes } from 'node:crypto'
import { TOKEN_BYTES, TOKEN_LIFE_MS, TOKENS_MAX } from './limits.ts'

interface Entry<Request> {
  readonly request: Request
  readonly untilMs: number
}

/** Requests that wait for their client, each under a word that works once. */
export class Tokens<Request> {
  /** In the order they were made, which is that of their ends. */
  readonly #entries = new Map<string, Entry<Request>>()
  readonly #clockMs: () => number

  /** The clock is not the time of day: setting that must neither keep a token alive nor end it. */
  constructor(clockMs: () => number = () => performance.now()) {
    this.#clockMs = clockMs
  }

  get size(): number {
    return this.#entries.size
  }

  add(request: Request): string {
    this.#forget()
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    this.#entries.set(token, { request, untilMs: this.#clockMs() + TOKEN_LIFE_MS })
    return token
  }

  /** The request, for the first who asks in time. */
  take(token: string): Request | undefined {
    const entry = this.#entries.get(token)
    this.#entries.delete(token)
    if (entry === undefined || this.#clockMs() > entry.untilMs) return undefined
    return entry.request
  }

  clear(): void {
    this.#entries.clear()
  }

  /** The ended ones, and the oldest where there is no room for one more. */
  #forget(): void {
    const nowMs = this.#clockMs()
    for (const [token, { untilMs }] of this.#entries) {
      if (nowMs <= untilMs && this.#entries.size < TOKENS_MAX) return
      this.#entries.delete(token)
    }
  }
}
