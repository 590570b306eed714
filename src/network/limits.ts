import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../base/fault.ts'
import { PLUGIN_TIMEOUT_MS, type PluginCall } from './plugin.ts'
import { KILL_WAIT_MS } from './program.ts'

/** The time and the caller's wish of one call that is done here, as execute() keeps them for a program. */
export class Limits {
  readonly #over: Promise<never>
  readonly #timer: NodeJS.Timeout
  readonly #signal: AbortSignal | undefined
  readonly #abort: () => void
  readonly #end = new AbortController()
  readonly #steps = new Set<Promise<unknown>>()
  #fault: Fault | undefined

  constructor(call: PluginCall) {
    const what = `CNI plugin ${call.type} (${call.command})`
    const timeoutMs = call.timeoutMs ?? PLUGIN_TIMEOUT_MS
    let reject: (fault: Fault) => void = () => {}
    this.#over = new Promise((_, refuse) => {
      reject = refuse
    })
    this.#over.catch(() => {})
    const end = (fault: Fault): void => {
      this.#fault ??= fault
      reject(this.#fault)
      this.#end.abort(this.#fault)
    }
    this.#timer = setTimeout(
      () => end(new Fault('DEADLINE_EXCEEDED', `${what} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    )
    this.#abort = () => end(new Fault('UNAVAILABLE', `${what} was cancelled`))
    this.#signal = call.signal
    this.#signal?.addEventListener('abort', this.#abort, { once: true })
    if (this.#signal?.aborted) this.#abort()
  }

  /** Why no further step may begin. */
  get fault(): Fault | undefined {
    return this.#fault
  }

  /** Aborted where no further step may begin, for what the steps wait for. */
  get signal(): AbortSignal {
    return this.#end.signal
  }

  /** What the step gives, unless the time ends before: then the step is left alone, and nothing follows it. */
  async step<T>(step: () => Promise<T>): Promise<T> {
    if (this.#fault) throw this.#fault
    const begun = step()
    this.#steps.add(begun)
    const forget = (): void => void this.#steps.delete(begun)
    begun.then(forget, forget)
    return Promise.race([begun, this.#over])
  }

  /**
   * Waits for the steps that were left alone, or as long as for a killed program: a DEL that is done before them would not find what they still make. Never
   * rejects.
   */
  async ended(): Promise<void> {
    const waited = new AbortController()
    const late = delay(KILL_WAIT_MS, undefined, { signal: waited.signal }).catch(() => {})
    await Promise.race([Promise.allSettled(this.#steps), late])
    waited.abort()
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#abort)
  }
}
