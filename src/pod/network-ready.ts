import { describe } from '../base/fault.ts'
import { type ChainOptions, findPlugin, type NetworkConf, networkStatus } from '../network/index.ts'

/** The condition NetworkReady. */
export interface NetworkReadiness {
  readonly ready: boolean
  /** '' or NetworkPluginNotReady. */
  readonly reason: string
  readonly message: string
}

/** How long an answer of STATUS holds; how long is waited for one; how long a plugin may take for it. */
const STATUS_KEPT_MS = 5000
const STATUS_WAIT_MS = 500
const STATUS_TIMEOUT_MS = 10_000

/** What the plugins say to STATUS, which is asked in the background: the kubelet's question must not hang with a plugin. */
export class NetworkStatus {
  #said:
    | { readonly conf: NetworkConf; readonly failure: string | undefined; readonly at: number }
    | undefined
  #asking: { readonly conf: NetworkConf; readonly answer: Promise<void> } | undefined

  /** Why the network takes no pods; undefined where it does. Where the plugins take too long, what they said before. */
  async of(conf: NetworkConf, options: ChainOptions): Promise<string | undefined> {
    const said = this.#said
    if (said?.conf === conf && Date.now() - said.at < STATUS_KEPT_MS) return said.failure
    if (this.#asking?.conf !== conf) this.#asking = { conf, answer: this.#ask(conf, options) }
    await withinTime(this.#asking.answer, STATUS_WAIT_MS)
    if (this.#said?.conf === conf) return this.#said.failure
    return `the plugins of network ${conf.name} have not yet answered STATUS`
  }

  forget(): void {
    this.#said = undefined
    this.#asking = undefined
  }

  async #ask(conf: NetworkConf, options: ChainOptions): Promise<void> {
    let failure: string | undefined
    try {
      await networkStatus(conf, { ...options, timeoutMs: STATUS_TIMEOUT_MS })
    } catch (error) {
      failure = describe(error)
    }
    // Meanwhile another network may have been asked.
    if (this.#asking?.conf !== conf) return
    this.#asking = undefined
    this.#said = { conf, failure, at: Date.now() }
  }
}

export function notReady(message: string): NetworkReadiness {
  return { ready: false, reason: 'NetworkPluginNotReady', message }
}

/** What is missing of the programs that a network needs, its plugins' own (IPAM) among them. */
export function missingPlugins(conf: NetworkConf, directories: readonly string[]): string[] {
  const types = conf.plugins.flatMap((plugin) => {
    const ipam = plugin['ipam'] as { readonly type?: unknown } | null | undefined
    return typeof ipam?.type === 'string' && ipam.type !== ''
      ? [plugin.type, ipam.type]
      : [plugin.type]
  })
  return [...new Set(types)].flatMap((type) => {
    try {
      findPlugin(type, directories)
      return []
    } catch (error) {
      return [describe(error)]
    }
  })
}

async function withinTime(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const time = new Promise((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([promise, time])
  clearTimeout(timer)
}
