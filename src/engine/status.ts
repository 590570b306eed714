import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { describe, exitCode, isErrno } from '../base/fault.ts'
import { readFileIfAny, readJsonIfAny, writeFileAtomic } from '../base/file.ts'
import { isMonitorAlive } from '../container/monitor.ts'
import type { Engine } from './open.ts'
import type { ContainerRecord, ContainerStatus, ExitRecord } from './types.ts'

/** STATE/containers/ID/status.json, as a monitor writes it (docs/native.md). */
interface MonitorStatus {
  readonly protocol: number
  readonly monitor: number
  readonly containers: Readonly<
    Record<
      string,
      {
        readonly pid: number
        readonly state: 'creating' | 'created' | 'running' | 'stopped'
        readonly startedNs: string
        readonly restarts: number
      }
    >
  >
}

/** ROOT/containers/ID/run.json: that the container was started, in which boot and into which cgroup. */
export interface RunMark {
  readonly bootId: string
  readonly cgroup: string
}

/** The exit code where none can be known: the monitor or the machine went away first (containerd's and kubelet's convention). */
export const UNKNOWN_EXIT = 255

/**
 * A container's state, derived: the living monitor's word; else the exit record; else, where a start is marked, the container was lost with
 * its monitor; else it was never started.
 */
export function containerStatus(engine: Engine, record: ContainerRecord): ContainerStatus {
  const live = liveStatus(engine, record.id)
  if (live) return live
  const exit = readExit(engine, record.id)
  if (exit) {
    return {
      ...NOTHING,
      state: 'stopped',
      startedNs: exit.startedNs,
      finishedNs: exit.finishedNs,
      exitCode: exit.code,
      oomKilled: exit.oomKilled,
      error: exit.error,
      restarts: exit.restarts,
    }
  }
  const mark = readRunMark(engine, record.id)
  if (!mark) return NOTHING
  const monitored = monitoredState(engine.at.live(record.id), record.id)
  if (monitored === 'stopped') {
    return { ...NOTHING, state: 'stopped', exitCode: UNKNOWN_EXIT, error: OWED }
  }
  // A monitor that has not told of the container yet is just making it.
  if (monitored !== undefined) return NOTHING
  return { ...NOTHING, state: 'stopped', exitCode: UNKNOWN_EXIT, error: lossReason(mark) }
}

/** Whether a status is of a container that was lost with its monitor, and that nobody has cleaned up after yet. */
export function isUnrecordedEnd(status: ContainerStatus): boolean {
  return status.state === 'stopped' && status.finishedNs === '0' && !isOwed(status)
}

const NOTHING: ContainerStatus = {
  state: 'created',
  pid: 0,
  monitorPid: 0,
  startedNs: '0',
  finishedNs: '0',
  exitCode: 0,
  oomKilled: false,
  error: '',
  restarts: 0,
}

const OWED = 'its monitor has no room on the disk for its exit record yet'

/** Whether the end is known to the monitor alone. */
export const isOwed = (status: ContainerStatus): boolean => status.error === OWED

/** What a living monitor says of a container that does not run; undefined without a living monitor. */
function monitoredState(directory: string, id: string): 'making' | 'stopped' | undefined {
  if (!isMonitorAlive(directory)) return
  const text = readFileIfAny(join(directory, 'status.json'))
  const status = text === undefined ? undefined : (JSON.parse(text) as MonitorStatus)
  return status?.containers[id]?.state === 'stopped' ? 'stopped' : 'making'
}

function liveStatus(engine: Engine, id: string): ContainerStatus | undefined {
  const directory = engine.at.live(id)
  const text = readFileIfAny(join(directory, 'status.json'))
  if (text === undefined || !isMonitorAlive(directory)) return
  const status = JSON.parse(text) as MonitorStatus
  const own = status.containers[id]
  if (!own || own.state === 'stopped' || own.state === 'creating') return
  const running = own.state === 'running'
  return {
    ...NOTHING,
    state: running ? (isFrozen(engine, id) ? 'paused' : 'running') : 'created',
    pid: own.pid,
    monitorPid: status.monitor,
    startedNs: running ? own.startedNs : '0',
    restarts: own.restarts,
  }
}

function isFrozen(engine: Engine, id: string): boolean {
  const cgroup = readRunMark(engine, id)?.cgroup
  if (!cgroup) return false
  return readFileIfAny(join(cgroup, 'cgroup.freeze'))?.trim() === '1'
}

export function readExit(engine: Engine, id: string): ExitRecord | undefined {
  return readJsonIfAny(engine.at.exit(id)) as ExitRecord | undefined
}

export function readRunMark(engine: Engine, id: string): RunMark | undefined {
  return readJsonIfAny(join(engine.at.container(id), 'run.json')) as RunMark | undefined
}

/** Marks a start: from here on a container without monitor and exit record is one that was lost. */
export function writeRunMark(engine: Engine, id: string, cgroup: string): void {
  rmSync(engine.at.exit(id), { force: true })
  const mark: RunMark = { bootId: bootId(), cgroup }
  writeFileAtomic(join(engine.at.container(id), 'run.json'), JSON.stringify(mark))
}

/** Writes the exit record that a lost monitor could not write. */
export function writeLostExit(engine: Engine, id: string): void {
  const mark = readRunMark(engine, id)
  if (mark) writeExitIfNone(engine, id, UNKNOWN_EXIT, lossReason(mark))
}

/** Writes the exit record of a start that failed before there was a process, as the monitor does where it fails after. */
export function writeFailedExit(engine: Engine, id: string, error: unknown): void {
  try {
    if (readRunMark(engine, id)) writeExitIfNone(engine, id, exitCode(error), describe(error))
  } catch (failure) {
    // With a full disk the start's own failure is still the one to tell.
    engine.warn(`cannot write the exit record: ${describe(failure)}`)
  }
}

/** Whether an exit record was written for a container that was lost with its monitor. */
export function isLoss(exit: Pick<ExitRecord, 'code' | 'startedNs' | 'error'>): boolean {
  return exit.code === UNKNOWN_EXIT && exit.startedNs === '0' && exit.error !== ''
}

function writeExitIfNone(engine: Engine, id: string, code: number, error: string): void {
  if (readExit(engine, id)) return
  const exit: ExitRecord = {
    id,
    code,
    signal: 0,
    oomKilled: false,
    createdNs: '0',
    startedNs: '0',
    finishedNs: String(nowNs()),
    error,
    restarts: 0,
  }
  writeFileAtomic(engine.at.exit(id), JSON.stringify(exit))
}

function lossReason(mark: RunMark): string {
  return mark.bootId === bootId()
    ? 'its monitor was killed, so its exit code is not known'
    : 'the machine was restarted while it ran, so its exit code is not known'
}

let cachedBootId: string | undefined

/** The kernel's name for this boot. */
export function bootId(): string {
  try {
    cachedBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    cachedBootId = 'unknown'
  }
  return cachedBootId
}
