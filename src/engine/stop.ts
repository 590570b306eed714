import { Fault } from '../base/fault.ts'
import { thawCgroup } from '../container/index.ts'
import { connectMonitor, monitorEnd } from '../container/monitor.ts'
import { CallerGone } from '../kernel/caller.ts'
import { signalName, signalNumber } from '../spec/linux.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import { monitorOf } from './live.ts'
import type { Engine } from './open.ts'
import { lockContainer, readRecord, resolveId } from './record.ts'
import { recover } from './recover.ts'
import { about, startContainer } from './start.ts'
import { containerStatus, isOwed, readExit, readRunMark } from './status.ts'
import type { ContainerRecord, ExitRecord } from './types.ts'

/** Stop signal, wait, SIGKILL. Already stopped is success. `timeoutS` -1 waits for ever. */
export async function stopContainer(
  engine: Engine,
  ref: string,
  options: { timeoutS?: number | undefined; signal?: string | undefined },
): Promise<void> {
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  await stopLocked(engine, record, {
    timeoutS: options.timeoutS ?? record.stopTimeoutS,
    signal: options.signal === undefined ? record.stopSignal : parseSignal(options.signal),
  })
}

/** The same for a caller that holds the container's lock. */
export async function stopLocked(
  engine: Engine,
  record: ContainerRecord,
  options: { timeoutS: number; signal: number },
): Promise<void> {
  const { state } = containerStatus(engine, record)
  if (state === 'created' || state === 'stopped') {
    await recover(engine, record)
    return
  }
  // A frozen process takes no signal.
  if (state === 'paused') await thawCgroup(readRunMark(engine, record.id)?.cgroup ?? '')
  try {
    await stopRunning(engine, record.id, options)
  } catch (error) {
    // It ended by itself at this very moment, and its monitor after it.
    if (!(error instanceof Fault) || error.code !== 'UNAVAILABLE') throw error
    await recover(engine, record)
  }
  emit(engine, about(record, 'stop'))
}

async function stopRunning(
  engine: Engine,
  id: string,
  options: { timeoutS: number; signal: number },
): Promise<void> {
  using monitor = await connectMonitor(engine.at.live(id))
  const exit = monitor.wait(id)
  // Where a request before it fails, that failure is the one to tell.
  exit.catch(() => {})
  const signal = options.timeoutS === 0 ? 9 : options.signal
  await monitor.signal(id, { signal, stop: true })
  if (options.timeoutS > 0 && !(await within(exit, options.timeoutS * 1000))) {
    await monitor.signal(id, { signal: 9, all: true, stop: true })
  }
  // What may wait for ever must not hold the container's lock for a caller who has gone.
  const gone = new Promise<never>((_, reject) => {
    if (options.timeoutS < 0) engine.caller.onGone(() => reject(new CallerGone()))
  })
  await Promise.race([exit, gone])
}

async function within(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs)
  })
  try {
    return await Promise.race([promise.then(() => true), timeout])
  } finally {
    clearTimeout(timer)
  }
}

export async function killContainer(engine: Engine, ref: string, signal: string): Promise<void> {
  const { record, status } = await findContainer(engine, ref)
  const number = parseSignal(signal)
  if (status.state !== 'running' && status.state !== 'paused') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot kill container ${record.name}: it is ${status.state}`,
    )
  }
  const monitor = await monitorOf(engine, record)
  try {
    await monitor.signal(record.id, { signal: number, stop: number === 9 })
  } finally {
    monitor.close()
  }
  emit(engine, about(record, 'kill', { signal: String(number) }))
}

export function parseSignal(text: string): number {
  const number = signalNumber(text)
  if (number === undefined) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${text}" is no signal: a name such as ${signalName(15)} or a number is wanted`,
    )
  }
  return number
}

export async function restartContainer(
  engine: Engine,
  ref: string,
  options: { timeoutS?: number | undefined },
): Promise<void> {
  await stopContainer(engine, ref, options)
  await startContainer(engine, ref)
}

/** Resolves when the container is stopped, at once if it is; rejects after the signal. One that was never started is refused: it may never be. */
export async function waitContainer(
  engine: Engine,
  ref: string,
  signal?: AbortSignal,
): Promise<ExitRecord> {
  const { record, status } = await findContainer(engine, ref)
  if (status.state === 'running' || status.state === 'paused' || isOwed(status)) {
    const exit = await exitFromMonitor(engine.at.live(record.id), record.id, signal)
    if (exit) return exit
    // Lost with its monitor: looking at it writes its exit record.
    await findContainer(engine, record.id)
  }
  const exit = readExit(engine, record.id)
  if (exit) return exit
  if (status.state === 'created') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `container ${record.name} was never started: nothing to wait for`,
    )
  }
  const now = containerStatus(engine, record)
  return {
    id: record.id,
    code: now.exitCode,
    signal: 0,
    oomKilled: now.oomKilled,
    createdNs: record.createdNs,
    startedNs: now.startedNs,
    finishedNs: now.finishedNs,
    error: now.error,
    restarts: now.restarts,
  }
}

/** The end as the monitor tells it; undefined where it ends without a word. */
async function exitFromMonitor(
  live: string,
  id: string,
  signal: AbortSignal | undefined,
): Promise<ExitRecord | undefined> {
  const monitor = await connectMonitor(live).catch(() => undefined)
  const leave = (): void => monitor?.close()
  signal?.addEventListener('abort', leave, { once: true })
  if (signal?.aborted) leave()
  try {
    return await monitor?.wait(id)
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof Fault) || error.code !== 'UNAVAILABLE') throw error
    await monitorEnd(live)
    return
  } finally {
    signal?.removeEventListener('abort', leave)
    monitor?.close()
  }
}
