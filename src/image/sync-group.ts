/** A layer waits so long at most until others can wait for the disk with it: one that is slow to come holds up nobody, and two pulls that want each other's layers go on. */
const TOGETHER_MS = 500

/**
 * Layers of one image, each of which has to be on the disk before it counts. A syncfs(2) also waits for what other programs have written, so
 * 50 small layers shall wait for one of them and not for 20. Whoever is ready waits here while others are still being brought.
 */
export class SyncGroup {
  readonly #togetherMs: number
  /** Members that are being brought. */
  #busy = 0
  #ready: (() => void)[] = []
  #timer: NodeJS.Timeout | undefined

  /** `togetherMs` is for tests. */
  constructor(togetherMs: number = TOGETHER_MS) {
    this.#togetherMs = togetherMs
  }

  /** Others wait for a member until it is ready, leaves, or is disposed of. */
  join(): SyncMember {
    this.#busy++
    return new SyncMember({
      enter: () => this.#busy++,
      leave: () => this.#left(),
      ready: () =>
        new Promise((resolve) => {
          this.#ready.push(resolve)
          this.#timer ??= setTimeout(() => this.#release(), this.#togetherMs)
          this.#left()
        }),
    })
  }

  #left(): void {
    this.#busy--
    // Whoever makes way has the next begin in this turn of the event loop.
    if (this.#busy === 0 && this.#ready.length > 0) {
      setImmediate(() => {
        if (this.#busy === 0) this.#release()
      })
    }
  }

  #release(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const ready = this.#ready
    this.#ready = []
    for (const goOn of ready) goOn()
  }
}

export class SyncMember {
  readonly #group: { enter: () => void; leave: () => void; ready: () => Promise<void> }
  #isBusy = true

  constructor(group: { enter: () => void; leave: () => void; ready: () => Promise<void> }) {
    this.#group = group
  }

  /** Waits for what another pull may hold (a lock), and is waited for by nobody meanwhile. */
  async aside<T>(waiting: Promise<T>): Promise<T> {
    this.leave()
    try {
      return await waiting
    } finally {
      this.#isBusy = true
      this.#group.enter()
    }
  }

  /** Returns when no other is being brought any more, or after some time: now one wait for the disk serves all that were ready. */
  async ready(): Promise<void> {
    if (!this.#isBusy) return
    this.#isBusy = false
    await this.#group.ready()
  }

  /** Has its own way to the disk, or none. */
  leave(): void {
    if (!this.#isBusy) return
    this.#isBusy = false
    this.#group.leave()
  }

  [Symbol.dispose](): void {
    this.leave()
  }
}
