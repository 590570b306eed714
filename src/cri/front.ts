import { Worker } from 'node:worker_threads'
import { describe } from '../base/fault.ts'
import type { Roots } from '../engine/types.ts'
import type { Log } from './log.ts'

/** A thread that has failed is started anew, but not at once: what failed may fail again. */
const RESTART_MS = 10_000
/** To end by itself; commands under way are cut off. */
const END_MS = 1000

/** Beside the daemon's bundle (scripts/bundle.ts); without one, as tsc makes it. */
const PROGRAM = import.meta.url.endsWith('.cjs') ? './front.cjs' : '../main-front.js'

/** The thread that does command lines for native/front (docs/native.md), at STATE/front.sock. Without it they are done without a daemon. */
export class Front {
  readonly #roots: Roots
  readonly #log: Log
  #worker: Worker | undefined
  #restart: NodeJS.Timeout | undefined

  constructor({ root, state }: Roots, log: Log) {
    this.#roots = { root, state }
    this.#log = log
    this.#start()
  }

  async close(): Promise<void> {
    clearTimeout(this.#restart)
    const worker = this.#worker
    this.#worker = undefined
    if (!worker) return
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
    worker.postMessage('close')
    const late = setTimeout(() => void worker.terminate(), END_MS)
    await ended
    clearTimeout(late)
  }

  #start(): void {
    const worker = new Worker(new URL(PROGRAM, import.meta.url), {
      workerData: this.#roots,
      // Node would warn of each fd that the addon has opened and Node closes.
      trackUnmanagedFds: false,
    })
    this.#worker = worker
    worker.on('error', (error) => this.#log.error('front', { error: describe(error) }))
    worker.on('exit', () => {
      if (this.#worker !== worker) return
      // Nobody may wait for its end any more.
      this.#worker = undefined
      this.#restart = setTimeout(() => this.#start(), RESTART_MS)
    })
  }
}
