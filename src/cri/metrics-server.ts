import type { Server } from 'node:http'
import { type Address, parseAddress } from './address.ts'
import { type Answer, closeServer, listenHttp } from './listen.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

/** Serves GET /metrics. */
export function serveMetrics(address: Address, metrics: Metrics, log: Log): Promise<Server> {
  return listenHttp(address, {
    log,
    answer: async (method, { pathname }): Promise<Answer> => {
      if (method !== 'GET' && method !== 'HEAD') return plain(405, 'GET only\n')
      if (pathname !== '/metrics') return plain(404, 'berth: /metrics\n')
      return { status: 200, type: metrics.contentType, body: await metrics.text() }
    },
  })
}

function plain(status: number, body: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body }
}

/** The server at `metrics.address`, which may change while the daemon runs. */
export class MetricsEndpoint {
  readonly #metrics: Metrics
  readonly #log: Log
  #address = ''
  #server: Server | undefined

  constructor(metrics: Metrics, log: Log) {
    this.#metrics = metrics
    this.#log = log
  }

  /** Serves at this address and no more at another; "" is none. Where it cannot, the old one is gone all the same: it was not to be served. */
  async listen(address: string): Promise<void> {
    if (address === this.#address && (this.#server !== undefined || address === '')) return
    await this.close()
    if (address !== '') {
      this.#server = await serveMetrics(parseAddress(address), this.#metrics, this.#log)
    }
    this.#address = address
  }

  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.#address = ''
    if (server !== undefined) await closeServer(server)
  }
}
