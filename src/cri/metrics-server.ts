import type { Server } from 'node:http'
import type { Address } from './address.ts'
import { type Answer, listenHttp } from './listen.ts'
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
