/** What the daemon says of itself to root: STATE/debug.sock, HTTP with JSON, for `berth debug`. */
import type { Server } from 'node:http'
import { type IntervalHistogram, monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { describe } from '../base/fault.ts'
import { within } from '../base/within.ts'
import { debugSocket } from './address.ts'
import { type ConfigurationKey, type LoadedConfiguration, listConfiguration } from './config.ts'
import { type Answer, listenHttp } from './listen.ts'
import { LOG_LEVELS, type Log, type LogLevel } from './log.ts'
import type { OperationReport, Operations } from './operations.ts'

const LOOP_RESOLUTION_MS = 50
/** The summary asks what may itself be what hangs. */
const SUMMARY_TIMEOUT_MS = 2000

export interface DebugSources {
  readonly version: string
  readonly operations: Operations
  readonly log: Log
  /** What is in force. */
  readonly configuration: () => LoadedConfiguration
  /** Pods, containers, monitors: numbers and words by name; nested once for what has parts. */
  readonly summary: () => Promise<Readonly<Record<string, unknown>>>
}

export interface DebugReport {
  readonly version: string
  readonly node: string
  readonly pid: number
  readonly uptimeMs: number
  readonly operations: readonly OperationReport[]
  readonly summary: Readonly<Record<string, unknown>>
  /** Delay of the event loop since the last report, and how much of the time it was at work. */
  readonly eventLoop: {
    readonly sinceMs: number
    readonly busyPercent: number
    readonly p50Ms: number
    readonly p99Ms: number
    readonly maxMs: number
  }
  readonly memory: {
    readonly residentBytes: number
    readonly heapUsedBytes: number
    readonly heapTotalBytes: number
    readonly externalBytes: number
  }
  /** What keeps Node waiting, by kind: sockets, timers, requests to the file system. */
  readonly resources: Readonly<Record<string, number>>
  readonly log: { readonly level: LogLevel; readonly dropped: number }
  readonly configuration: readonly ConfigurationKey[]
}

/** Collects reports; one a daemon, since it measures the event loop from its making on. */
export class Debug {
  readonly #sources: DebugSources
  readonly #delay: IntervalHistogram
  #since = performance.now()
  #utilization = performance.eventLoopUtilization()

  constructor(sources: DebugSources) {
    this.#sources = sources
    this.#delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
    this.#delay.enable()
  }

  async report(): Promise<DebugReport> {
    const { version, operations, log, configuration } = this.#sources
    const memory = process.memoryUsage()
    return {
      version,
      node: process.version,
      pid: process.pid,
      uptimeMs: Math.round(process.uptime() * 1000),
      operations: operations.list(),
      summary: await this.#summary(),
      eventLoop: this.#eventLoop(),
      memory: {
        residentBytes: memory.rss,
        heapUsedBytes: memory.heapUsed,
        heapTotalBytes: memory.heapTotal,
        externalBytes: memory.external,
      },
      resources: countOf(process.getActiveResourcesInfo()),
      log: { level: log.level, dropped: log.dropped },
      configuration: listConfiguration(configuration()),
    }
  }

  /** The report as lines of the log: an operation a line. For SIGUSR1, where the socket is of no use. */
  async dump(): Promise<void> {
    const { log } = this.#sources
    const { operations, configuration, ...rest } = await this.report()
    // At `error`, so that it is there whatever the level.
    log.error('dump', { ...rest, operations: operations.length })
    for (const { id, ...operation } of operations) {
      log.error('dump of an operation', { op: id, ...operation })
    }
    for (const { key, value, origin } of configuration) {
      if (origin !== 'default') log.error('dump of the configuration', { key, value, origin })
    }
  }

  /** Serves the report on STATE/debug.sock, for root alone. */
  serve(state: string): Promise<Server> {
    const { log } = this.#sources
    return listenHttp(
      { path: debugSocket(state) },
      { log, answer: (method, url) => this.#answer(method, url) },
    )
  }

  close(): void {
    this.#delay.disable()
  }

  async #answer(method: string, { pathname, searchParams }: URL): Promise<Answer> {
    if (pathname === '/report' && method === 'GET') return json(200, await this.report())
    if (pathname === '/log' && method === 'PUT') {
      const level = LOG_LEVELS.find((each) => each === searchParams.get('level'))
      if (level === undefined) return json(400, { error: `levels: ${LOG_LEVELS.join(', ')}` })
      const { log } = this.#sources
      log.set({ level })
      log.write(level, 'log level set by berth debug', { level })
      return json(200, { level })
    }
    return json(404, { error: 'known: GET /report, PUT /log?level=LEVEL' })
  }

  async #summary(): Promise<Readonly<Record<string, unknown>>> {
    try {
      return await within(SUMMARY_TIMEOUT_MS, this.#sources.summary())
    } catch (error) {
      return { error: describe(error) }
    }
  }

  #eventLoop(): DebugReport['eventLoop'] {
    // Node counts from one of its timer's turns to the next.
    const ms = (ns: number): number =>
      Math.max(0, Math.round((ns / 1e6 - LOOP_RESOLUTION_MS) * 10) / 10) || 0
    const now = performance.now()
    const utilization = performance.eventLoopUtilization()
    const since = performance.eventLoopUtilization(utilization, this.#utilization)
    const result = {
      sinceMs: Math.round(now - this.#since),
      busyPercent: Math.round(since.utilization * 1000) / 10,
      p50Ms: ms(this.#delay.percentile(50)),
      p99Ms: ms(this.#delay.percentile(99)),
      maxMs: ms(this.#delay.max),
    }
    this.#since = now
    this.#utilization = utilization
    this.#delay.reset()
    return result
  }
}

function countOf(names: readonly string[]): Record<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return Object.fromEntries([...counts].sort())
}

function json(status: number, value: unknown): Answer {
  const body = JSON.stringify(value, (_, each) =>
    typeof each === 'bigint' ? each.toString() : each,
  )
  return { status, type: 'application/json', body: `${body}\n` }
}
