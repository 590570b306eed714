import { Fault } from '../base/fault.ts'
import { PLUGIN_TIMEOUT_MS, type PluginCall } from './plugin.ts'

/** The time and the caller's wish of one call that is done here, as execute() keeps them for a program. */
export class Limits {
  readonly #over: Promise<never>
  readonly #timer: NodeJS.Timeout
  readonly #signal: AbortSignal | undefined
  readonly #abort: () => void
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

  /** What the step gives, unless the time ends before: then the step is left alone, and nothing follows it. */
  async step<T>(step: () => Promise<T>): Promise<T> {
    if (this.#fault) throw this.#fault
    return Promise.race([step(), this.#over])
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#signal?.removeEventListener('abort', this.#abort)
  }
}
