/** What the daemon is doing: an operation a call, with the stage that it stands at. */
import { describe, Fault } from '../base/fault.ts'
import type { Stage as TellStage } from '../base/stage.ts'
import type { Log, LogLevel } from './log.ts'
import type { Metrics } from './metrics.ts'

/** A loop that names its turns must not fill the memory. */
const STAGES_MAX = 64
const WATCH_INTERVAL_MS = 1000

/** Calls that change nothing. kubelet makes some of them every few seconds: a good one is no news. */
const READ_ONLY =
  /^(List|Stream)|^(Version|Status|RuntimeConfig|GetContainerEvents)$|(Status|Stats|Info)$/

/** Codes that are no mistake of the caller. */
const OUR_FAULT: readonly string[] = ['INTERNAL', 'DATA_LOSS', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED']

export interface Stage {
  readonly name: string
  readonly ms: number
}

export interface OperationReport {
  /** Of this process; the same in the log's lines. */
  readonly id: string
  readonly method: string
  /** What it is about, for people: a pod's name, a container's id. */
  readonly subject: string
  readonly ms: number
  /** In order; the last is where it stands. Empty where the operation has named none. */
  readonly stages: readonly Stage[]
}

export class Operation {
  readonly id: string
  readonly method: string
  /** May become more exact as the operation learns it. */
  subject: string
  readonly #startedMs = performance.now()
  readonly #stages: { readonly name: string; readonly startedMs: number }[] = []
  readonly #finished: (operation: Operation, error: unknown) => void
  readonly #patienceMs: number | undefined
  #stagePatienceMs: number | undefined
  #toldMs = 0
  #endedMs: number | undefined

  constructor(options: {
    readonly id: string
    readonly method: string
    readonly subject: string
    readonly patienceMs: number | undefined
    readonly finished: (operation: Operation, error: unknown) => void
  }) {
    this.id = options.id
    this.method = options.method
    this.subject = options.subject
    this.#patienceMs = options.patienceMs
    this.#finished = options.finished
  }

  readonly stage: TellStage = (name, patienceMs) => {
    if (this.#endedMs !== undefined || this.#stages.length >= STAGES_MAX) return
    this.#stages.push({ name, startedMs: performance.now() })
    this.#stagePatienceMs = patienceMs
    this.#toldMs = 0
  }

  /** The end, good or with an error; later calls do nothing. */
  done(error?: unknown): void {
    if (this.#endedMs !== undefined) return
    this.#endedMs = performance.now()
    this.#finished(this, error)
  }

  report(): OperationReport {
    const now = this.#endedMs ?? performance.now()
    const stages = this.#stages.map(({ name, startedMs }, i) => ({
      name,
      ms: round((this.#stages[i + 1]?.startedMs ?? now) - startedMs),
    }))
    const { id, method, subject } = this
    return { id, method, subject, ms: round(now - this.#startedMs), stages }
  }

  /** How long it has been in its stage, where that is longer than `slowMs` or its own patience and was not told yet; told again each time it has doubled. */
  overdue(
    slowMs: number,
    nowMs = performance.now(),
  ): { readonly stage: string | undefined; readonly ms: number } | undefined {
    const stage = this.#stages.at(-1)
    const ms = nowMs - (stage?.startedMs ?? this.#startedMs)
    const patience = this.#stagePatienceMs ?? this.#patienceMs ?? slowMs
    if (ms < Math.max(patience, this.#toldMs * 2)) return undefined
    this.#toldMs = ms
    return { stage: stage?.name, ms: round(ms) }
  }
}

export class Operations {
  /** How long a stage may last before the log names it. */
  slowStageMs: number
  readonly #log: Log
  readonly #metrics: Metrics | undefined
  readonly #tell: (act: () => void) => void
  readonly #running = new Map<string, Operation>()
  #count = 0
  #watch: NodeJS.Timeout | undefined

  constructor(options: {
    readonly log: Log
    readonly metrics?: Metrics
    readonly slowStageMs: number
    /** When an end is told; at once where nothing else is said. */
    readonly tell?: (act: () => void) => void
  }) {
    this.#log = options.log
    this.#metrics = options.metrics
    this.slowStageMs = options.slowStageMs
    this.#tell = options.tell ?? ((act) => act())
  }

  get size(): number {
    return this.#running.size
  }

  /** `patienceMs` is for calls that last as long as their client likes: Infinity for a stream of events. */
  begin(method: string, subject: string, options: { patienceMs?: number } = {}): Operation {
    this.#count++
    const operation = new Operation({
      id: this.#count.toString(36),
      method,
      subject,
      patienceMs: options.patienceMs,
      finished: (ended, error) => this.#finished(ended, error),
    })
    this.#running.set(operation.id, operation)
    // Nothing wakes an idle daemon.
    this.#watch ??= setInterval(() => this.#lookForSlow(), WATCH_INTERVAL_MS).unref()
    return operation
  }

  /** Does `act` as an operation, whose `stage` is handed on to what tells its own. */
  async run<T>(
    method: string,
    subject: string,
    act: (operation: Operation) => Promise<T>,
    options: { patienceMs?: number } = {},
  ): Promise<T> {
    const operation = this.begin(method, subject, options)
    try {
      const result = await act(operation)
      operation.done()
      return result
    } catch (error) {
      // An error that is falsy is an error, too.
      operation.done(error ?? new Error('no reason was given'))
      throw error
    }
  }

  /** Those in flight, the oldest first. */
  list(): OperationReport[] {
    return [...this.#running.values()].map((operation) => operation.report())
  }

  #finished(operation: Operation, error: unknown): void {
    this.#running.delete(operation.id)
    if (this.#running.size === 0) {
      clearInterval(this.#watch)
      this.#watch = undefined
    }
    const report = operation.report()
    this.#tell(() => this.#tellEnd(report, error))
  }

  #tellEnd(report: OperationReport, error: unknown): void {
    const code = codeOf(error)
    this.#metrics?.operationDone(report, code)
    this.#log.write(levelOf(report.method, code), 'call', {
      op: report.id,
      method: report.method,
      subject: report.subject,
      code,
      ms: report.ms,
      stages: report.stages.length > 0 ? stageTimes(report.stages) : undefined,
      error: error === undefined ? undefined : describe(error),
    })
  }

  #lookForSlow(): void {
    for (const operation of this.#running.values()) {
      const overdue = operation.overdue(this.slowStageMs)
      if (overdue === undefined) continue
      const { id, method, subject } = operation
      this.#log.warn('slow', { op: id, method, subject, ...overdue })
    }
  }
}

/** Milliseconds of each stage by name; those of one name together. */
export function stageTimes(stages: readonly Stage[]): Readonly<Record<string, number>> {
  const times = new Map<string, number>()
  for (const { name, ms } of stages) times.set(name, round((times.get(name) ?? 0) + ms))
  return Object.fromEntries(times)
}

function codeOf(error: unknown): string {
  if (error === undefined) return 'OK'
  // The client has called it off, or has gone.
  if (error instanceof Error && error.name === 'AbortError') return 'CANCELLED'
  return error instanceof Fault ? error.code : 'INTERNAL'
}

function levelOf(method: string, code: string): LogLevel {
  const isReadOnly = READ_ONLY.test(method)
  if (code === 'OK') return isReadOnly ? 'debug' : 'info'
  if (OUR_FAULT.includes(code)) return 'error'
  // kubelet asks for what has just been removed.
  return isReadOnly && code === 'NOT_FOUND' ? 'debug' : 'warn'
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10
}
