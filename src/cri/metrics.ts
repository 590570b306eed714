/** What Prometheus is told. Names and their help are here; the values come from whoever knows them. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { within } from '../base/within.ts'
import type { Log } from './log.ts'
import { type OperationReport, stageTimes } from './operations.ts'

/** From a list out of memory to a stop with a long grace. */
const CALL_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120]
const STAGE_SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 120]
/** Each is a time series for every bucket: a name too many, and all further ones are `other`. */
const STAGE_NAMES_MAX = 128
/** Node's own default of 10 ms would wake an idle daemon 100 times a second. */
const EVENT_LOOP_RESOLUTION_MS = 100
/** Prometheus itself waits 10 s. */
const STATES_TIMEOUT_MS = 5000

export type Counts = Readonly<Record<string, number>>

export interface MetricSources {
  readonly version: string
  readonly log: Log
  /** Operations in flight, by method. */
  readonly inFlight: () => Counts
  /** Pods and containers, by state. */
  readonly states: () => Promise<{ readonly pods: Counts; readonly containers: Counts }>
  /** Pulls by their end and what they have fetched, and events lost, since this process began. */
  readonly sums: () => {
    readonly pulls: Counts
    readonly pulledBytes: number
    readonly eventsDropped: number
  }
}

export class Metrics {
  readonly #registry = new Registry()
  readonly #sources: MetricSources
  readonly #stageNames = new Set<string>()
  readonly #calls = this.#counter('berth_operations_total', 'Calls that have ended.', ['method'])
  readonly #errors = this.#counter(
    'berth_operations_errors_total',
    'Calls that have ended with an error, by its gRPC code.',
    ['method', 'code'],
  )
  readonly #seconds = new Histogram({
    name: 'berth_operation_duration_seconds',
    help: 'Time that calls have taken.',
    labelNames: ['method'],
    buckets: CALL_SECONDS,
    registers: [this.#registry],
  })
  readonly #stageSeconds = new Histogram({
    name: 'berth_operation_stage_duration_seconds',
    help: 'Time that calls have spent in each of their stages.',
    labelNames: ['method', 'stage'],
    buckets: STAGE_SECONDS,
    registers: [this.#registry],
  })
  readonly #pods = this.#byState('berth_pods', 'Pods, by state.')
  readonly #containers = this.#byState('berth_containers', 'Containers, by state.')

  constructor(sources: MetricSources) {
    this.#sources = sources
    this.#gauges()
    this.#sums()
    collectDefaultMetrics({
      register: this.#registry,
      eventLoopMonitoringPrecision: EVENT_LOOP_RESOLUTION_MS,
    })
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** All of it, in Prometheus' text format. */
  async text(): Promise<string> {
    this.#pods.reset()
    this.#containers.reset()
    try {
      const { pods, containers } = await within(STATES_TIMEOUT_MS, this.#sources.states())
      for (const [state, count] of Object.entries(pods)) this.#pods.set({ state }, count)
      for (const [state, count] of Object.entries(containers))
        this.#containers.set({ state }, count)
    } catch (error) {
      // The others are told all the same.
      this.#sources.log.warn('metrics without pods and containers', { error })
    }
    return this.#registry.metrics()
  }

  operationDone({ method, ms, stages }: OperationReport, code: string): void {
    this.#calls.inc({ method })
    if (code !== 'OK') this.#errors.inc({ method, code })
    this.#seconds.observe({ method }, ms / 1000)
    for (const [name, time] of Object.entries(stageTimes(stages))) {
      this.#stageSeconds.observe({ method, stage: this.#stageName(name) }, time / 1000)
    }
  }

  #stageName(name: string): string {
    if (this.#stageNames.has(name)) return name
    if (this.#stageNames.size >= STAGE_NAMES_MAX) return 'other'
    this.#stageNames.add(name)
    return name
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #byState(name: string, help: string): Gauge<'state'> {
    return new Gauge({ name, help, labelNames: ['state'], registers: [this.#registry] })
  }

  /** Counters that somebody else counts: told as they are, from 0 on, for a counter that is missing makes rate() blind. */
  #sums(): void {
    const registers = [this.#registry]
    const { sums } = this.#sources
    new Counter({
      name: 'berth_image_pulls_total',
      help: 'Pulls that have ended.',
      labelNames: ['result'],
      registers,
      collect() {
        this.reset()
        for (const [result, count] of Object.entries(sums().pulls)) this.inc({ result }, count)
      },
    })
    const one = (name: string, help: string, count: () => number): void => {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset()
          this.inc(count())
        },
      })
    }
    one(
      'berth_image_pulled_bytes_total',
      'Bytes that pulls have fetched.',
      () => sums().pulledBytes,
    )
    one(
      'berth_events_dropped_total',
      'Container events that a subscriber was too slow for.',
      () => sums().eventsDropped,
    )
  }

  #gauges(): void {
    const registers = [this.#registry]
    const { version, log, inFlight } = this.#sources
    new Gauge({
      name: 'berth_build_info',
      help: 'Always 1; the version is a label.',
      labelNames: ['version'],
      registers,
    }).set({ version }, 1)
    new Gauge({
      name: 'berth_operations_in_flight',
      help: 'Calls that have not ended.',
      labelNames: ['method'],
      registers,
      collect() {
        this.reset()
        for (const [method, count] of Object.entries(inFlight())) this.set({ method }, count)
      },
    })
    new Gauge({
      name: 'berth_log_lines_dropped',
      help: 'Lines that the reader of the log was too slow for, since the start.',
      registers,
      collect() {
        this.set(log.dropped)
      },
    })
  }
}
