import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  watch,
} from 'node:fs'
import { basename } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { nowNs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import type { Engine } from './open.ts'
import { containerIds, readRecord } from './record.ts'
import { readExit } from './status.ts'
import type { ContainerRecord, EngineEvent, ExitRecord } from './types.ts'

/** Appended to until it has this size; then it becomes `events.old` and a new one is begun. About 40,000 events. */
const EVENTS_BYTES_MAX = 8 * 1024 * 1024

/** Adds an event to STATE/events: one write of one line, so that concurrent processes never mix theirs. */
export function emit(engine: Engine, event: Omit<EngineEvent, 'timeNs'>): void {
  append(engine, { timeNs: String(nowNs()), ...event })
}

/** Before a container's exit record goes, its death is added to the events: who follows them may not have come to the record, and who asks later would never know. */
export function keepDeath(engine: Engine, record: ContainerRecord): void {
  let exit: ExitRecord | undefined
  try {
    exit = readExit(engine, record.id)
  } catch (error) {
    engine.warn(`cannot record the death of ${record.name}: ${(error as Error).message}`)
  }
  if (exit) for (const event of deathEvents(record, exit)) append(engine, event)
}

function append(engine: Engine, event: EngineEvent): void {
  try {
    if ((statSync(engine.at.events, { throwIfNoEntry: false })?.size ?? 0) > EVENTS_BYTES_MAX) {
      renameSync(engine.at.events, `${engine.at.events}.old`)
    }
    appendFileSync(engine.at.events, `${JSON.stringify(event)}\n`, { mode: 0o600 })
  } catch (error) {
    // An event is for onlookers: a full disk must not fail the operation it tells of.
    engine.warn(`cannot record the event "${event.action}": ${(error as Error).message}`)
  }
}

/**
 * Past events from `sinceNs` on, then new ones until `signal` aborts or `untilNs` is reached. What commands did stands in STATE/events; the death of
 * a container is told by its exit record, which its monitor writes whoever is there, and once that is removed by STATE/events too.
 */
export async function* engineEvents(
  engine: Engine,
  options: { sinceNs?: string; untilNs?: string; follow: boolean; signal: AbortSignal },
): AsyncIterable<EngineEvent> {
  const since = options.sinceNs === undefined ? nowNs() : BigInt(options.sinceNs)
  const until = options.untilNs === undefined ? undefined : BigInt(options.untilNs)
  const reader = new LineReader(engine.at.events)
  const older =
    options.sinceNs === undefined ? [] : new LineReader(`${engine.at.events}.old`).readAll()
  const exits = new ExitReader(engine)
  const changes = new Changes(options.signal)
  try {
    changes.watch(engine.state)
    changes.watch(engine.at.containers)
    for (;;) {
      const seen = changes.count
      const events = [
        ...exits.untold([...older.splice(0), ...reader.read()]),
        ...exits.read((path) => changes.watch(path)),
      ]
        .filter((event) => BigInt(event.timeNs) >= since)
        .filter((event) => until === undefined || BigInt(event.timeNs) <= until)
        .sort((a, b) => (BigInt(a.timeNs) < BigInt(b.timeNs) ? -1 : 1))
      yield* events
      if (!options.follow || options.signal.aborted) return
      if (until !== undefined && nowNs() > until) return
      await changes.after(
        seen,
        until === undefined ? undefined : Number((until - nowNs()) / 1_000_000n) + 1,
      )
    }
  } finally {
    changes.close()
    reader.close()
  }
}

/** Lines of the events file, from where the last read ended. */
class LineReader {
  readonly #path: string
  #fd = -1
  #rest = ''
  #decoder = new StringDecoder('utf8')

  constructor(path: string) {
    this.#path = path
  }

  /** The rest of the file, and then the whole of the one that has taken its name. */
  read(): EngineEvent[] {
    const events = this.#fd < 0 ? [] : this.#readRest()
    const current = statSync(this.#path, { throwIfNoEntry: false })?.ino
    if (current === undefined) return events
    if (this.#fd >= 0) {
      if (fstatSync(this.#fd).ino === current) return events
      closeSync(this.#fd)
    }
    this.#fd = openSync(this.#path, 'r')
    this.#rest = ''
    this.#decoder = new StringDecoder('utf8')
    return [...events, ...this.#readRest()]
  }

  /** The whole file, once. */
  readAll(): EngineEvent[] {
    try {
      return this.read()
    } finally {
      this.close()
    }
  }

  #readRest(): EngineEvent[] {
    const events: EngineEvent[] = []
    const chunk = Buffer.alloc(64 * 1024)
    for (;;) {
      const length = readSync(this.#fd, chunk)
      if (length === 0) return events
      const lines = (this.#rest + this.#decoder.write(chunk.subarray(0, length))).split('\n')
      this.#rest = lines.pop() ?? ''
      for (const line of lines) {
        const event = parseEvent(line)
        if (event) events.push(event)
      }
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd)
  }
}

/** A full disk cuts a line, and the next is then in the same one: both are lost, and only they. */
function parseEvent(line: string): EngineEvent | undefined {
  try {
    return JSON.parse(line) as EngineEvent
  } catch {
    return
  }
}

/** Exit records of all containers, each run told once. */
class ExitReader {
  readonly #engine: Engine
  readonly #told = new Map<string, string>()
  readonly #watched = new Set<string>()

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Of the events that commands recorded those that no exit record has told before. */
  untold(events: readonly EngineEvent[]): EngineEvent[] {
    return events.filter(({ action, id, timeNs }) => {
      if (action !== 'die' && action !== 'oom') return true
      if (this.#told.get(id) === timeNs) return false
      // The last of a death.
      if (action === 'die') this.#told.set(id, timeNs)
      return true
    })
  }

  read(watchPath: (path: string) => void): EngineEvent[] {
    const events: EngineEvent[] = []
    for (const id of containerIds(this.#engine)) {
      const directory = this.#engine.at.container(id)
      if (!this.#watched.has(id)) {
        this.#watched.add(id)
        watchPath(directory)
      }
      const exit = readExit(this.#engine, id)
      if (!exit || this.#told.get(id) === exit.finishedNs) continue
      const record = readRecordIfGood(this.#engine, id)
      // That of one who is being removed goes first: then the events tell of the death.
      if (!record) continue
      this.#told.set(id, exit.finishedNs)
      events.push(...deathEvents(record, exit))
    }
    return events
  }
}

function deathEvents(record: ContainerRecord, exit: ExitRecord): EngineEvent[] {
  const about = {
    timeNs: exit.finishedNs,
    type: 'container',
    id: record.id,
    name: record.name,
  } as const
  const image = { image: record.image }
  return [
    ...(exit.oomKilled ? [{ ...about, action: 'oom', attributes: image }] : []),
    { ...about, action: 'die', attributes: { ...image, exitCode: String(exit.code) } },
  ]
}

/** One damaged record must not end the stream: `berth ps` tells of it. */
function readRecordIfGood(engine: Engine, id: string): ContainerRecord | undefined {
  try {
    return readRecord(engine, id)
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return
    throw error
  }
}

/** Counts changes below watched directories, and waits for the next. */
class Changes {
  count = 0
  readonly #watchers: { close(): void }[] = []
  readonly #signal: AbortSignal
  #wake: () => void = () => {}

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', () => this.#wake())
  }

  watch(path: string): void {
    try {
      const watcher = watch(path, (_event, name) => {
        if (name !== null && basename(name).includes('.tmp')) return
        this.count++
        this.#wake()
      })
      watcher.on('error', () => watcher.close())
      this.#watchers.push(watcher)
    } catch (error) {
      // The container was removed meanwhile.
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }

  /** Resolves when more than `seen` changes were counted, at an abort, or after the time. */
  async after(seen: number, timeoutMs: number | undefined): Promise<void> {
    if (this.count > seen || this.#signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(resolve, timeoutMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close()
  }
}
