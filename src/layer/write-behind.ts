import { syncTogether } from '../kernel/sync.ts'

/** Compressed bytes of a layer: some hundred MB of a large layer would otherwise wait in memory for its end, and all else for the disk then. */
const STEP_BYTES = 16 * 1024 * 1024

/** Has the disk at work while a large layer is being unpacked. */
export class WriteBehind {
  readonly #directory: string
  #next = STEP_BYTES
  #running: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  /** So many compressed bytes are unpacked. */
  reached(bytes: number): void {
    if (bytes < this.#next || this.#running) return
    this.#next = bytes + STEP_BYTES
    this.#running = syncTogether(this.#directory)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#running = undefined
      })
  }

  /** Throws what failed on the way: the kernel tells a failed write once, and would not tell it the last sync again. */
  async end(): Promise<void> {
    await this.#running
    if (this.#failure) throw this.#failure.error
  }
}
