import { type Profiler, Session } from 'node:inspector'

/** Which parts of `src/` ran, and roughly how often, as V8 counts them for its own coverage. */
export class Coverage {
  readonly #session = new Session()
  /** What has been seen of each block: a bit for each power of two of its count. */
  readonly #seen = new Map<string, number>()

  /** Before the code to be watched is loaded: V8 counts blocks only in functions that it compiles afterwards. */
  constructor() {
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  }

  /** Whether any code ran since the last call that never ran before. */
  reachesNew(): boolean {
    for (const { key } of this.#take()) if (!this.#seen.has(key)) return true
    return false
  }

  /** The same after one input, with how often it ran; remembered. */
  learns(): boolean {
    let isNew = false
    for (const { key, bit } of this.#take()) {
      const before = this.#seen.get(key) ?? 0
      if ((before & bit) !== 0) continue
      isNew = true
      this.#seen.set(key, before | bit)
    }
    return isNew
  }

  /** Blocks that ran at least once. */
  get size(): number {
    return this.#seen.size
  }

  *#take(): Generator<{ key: string; bit: number }> {
    let scripts: Profiler.ScriptCoverage[] = []
    // In this process the answer is there when the call returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error
      scripts = answer.result
    })
    for (const { url, scriptId, functions } of scripts) {
      if (!url.includes('/dist/src/')) continue
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count === 0) continue
          const bit = 1 << Math.min(Math.floor(Math.log2(count)), 15)
          yield { key: `${scriptId}:${startOffset}:${endOffset}`, bit }
        }
      }
    }
  }
}
