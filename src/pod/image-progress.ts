import type { Progress } from '../image/store.ts'

/** Sums since this process began, for the daemon's metrics. */
export interface ImageMetrics {
  /** Pulls that callers asked for. */
  readonly asked: number
  /** Of them, how many joined a transfer that was under way. */
  readonly joined: number
  /** Transfers by their end. */
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  /** Compressed bytes of layers that came over the network. */
  readonly fetchedBytes: number
  /** Milliseconds that the succeeded transfers took. */
  readonly tookMs: number
}

export type Counters = { -readonly [K in keyof ImageMetrics]: ImageMetrics[K] }

export function newCounters(): Counters {
  return {
    asked: 0,
    joined: 0,
    succeeded: 0,
    failed: 0,
    cancelled: 0,
    fetchedBytes: 0,
    tookMs: 0,
  }
}

/** One transfer as it is now. */
export interface PullUnderWay {
  readonly name: string
  readonly callers: number
  /** Waiting for other transfers of this process to end. */
  readonly isQueued: boolean
  readonly sinceMs: number
  /** Of the layers that were begun. */
  readonly doneBytes: number
  readonly totalBytes: number
}

interface LayerProgress {
  readonly phase: string
  readonly done: number
  readonly total: number
}

/** Adds up what a transfer tells of its layers. */
export class PullProgress {
  readonly #layers = new Map<string, LayerProgress>()
  readonly #counters: Counters
  #events = 0

  constructor(counters: Counters) {
    this.#counters = counters
  }

  /** Grows whenever something has moved. */
  get events(): number {
    return this.#events
  }

  readonly report: Progress = ({ id, phase, done, total }) => {
    const before = this.#layers.get(id)
    if (before?.phase === phase && before.done === done) return
    this.#events++
    // The first report of a download is where it is taken up: those bytes came earlier.
    if (phase === 'downloading' && before?.phase === phase && done > before.done) {
      this.#counters.fetchedBytes += done - before.done
    }
    this.#layers.set(id, { phase, done, total })
  }

  sum(): { doneBytes: number; totalBytes: number } {
    let doneBytes = 0
    let totalBytes = 0
    for (const { phase, done, total } of this.#layers.values()) {
      // What is unpacked from a blob at hand has been transferred.
      doneBytes += phase === 'unpacking' ? total : done
      totalBytes += total
    }
    return { doneBytes, totalBytes }
  }
}
