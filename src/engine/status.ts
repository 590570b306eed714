import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { isErrno } from '../base/fault.ts'
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
  // A monitor that has not told of the container yet is just making it.
  if (!mark || isMonitorAlive(engine.at.live(record.id))) return NOTHING
  return { ...NOTHING, state: 'stopped', exitCode: UNKNOWN_EXIT, error: lossReason(mark) }
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
  if (!mark || readExit(engine, id)) return
  const exit: ExitRecord = {
    id,
    code: UNKNOWN_EXIT,
    signal: 0,
    oomKilled: false,
    createdNs: '0',
    startedNs: '0',
    finishedNs: String(nowNs()),
    error: lossReason(mark),
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
