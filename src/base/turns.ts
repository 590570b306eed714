/** Work on one thing at a time: what is asked of a key while something is under way on it has its turn after that. */
export class Turns {
  readonly #tails = new Map<string, Promise<unknown>>()

  take<T>(key: string, act: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const turn = before.then(act, act)
    const tail = turn.catch(() => undefined)
    this.#tails.set(key, tail)
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key)
    })
    return turn
  }
}

/** Calls for the same thing at the same time are one: whoever comes while it is under way gets its result. */
export class Joins<T> {
  readonly #running = new Map<string, Promise<T>>()

  get size(): number {
    return this.#running.size
  }

  join(key: string, act: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key)
    if (running) return running
    const promise = act().finally(() => this.#running.delete(key))
    this.#running.set(key, promise)
    return promise
  }
}
