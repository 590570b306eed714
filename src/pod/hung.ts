import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { within } from '../base/within.ts'
import {
  connectMonitor,
  isMonitorAlive,
  lostMonitor,
  type Monitor,
  type MonitorStatus,
} from '../container/monitor.ts'
import { readStatus } from './records.ts'
import { within as settles } from './wait.ts'

/** A monitor does nothing that takes time: one that does not answer in this time is frozen, or waits for a broken disk. */
export const MONITOR_ANSWER_MS = 10_000
/** Between two attempts to reach a monitor that has too many callers. */
const CONNECT_PAUSE_MS = 100
/** What takes longer may be a slow disk's: whether the monitor hangs is asked from here on. */
const PATIENCE_MS = 2000

/**
 * Connects to the monitor of a directory; undefined where none lives. One that has only just begun has its lock before it listens, and one that hangs takes no
 * more callers when too many wait for it: after a time it is given as one whose connection is lost, as it is to adopt(), which tries again.
 */
export async function reachMonitor(directory: string): Promise<Monitor | undefined> {
  const until = performance.now() + MONITOR_ANSWER_MS
  while (isMonitorAlive(directory)) {
    const monitor = await connectMonitor(directory).catch(() => undefined)
    if (monitor) return monitor
    if (performance.now() > until) return lostMonitor()
    await delay(CONNECT_PAUSE_MS)
  }
  return
}

/** What the monitor of a directory says; undefined where it does not answer in time. */
export async function askMonitor(monitor: Monitor): Promise<MonitorStatus | undefined> {
  try {
    return await within(MONITOR_ANSWER_MS, monitor.status())
  } catch (error) {
    if (error instanceof Fault) return
    throw error
  }
}

/** The outcome of what a monitor was asked for, however long it takes; UNAVAILABLE when the monitor hangs meanwhile. */
export async function unlessHung<T>(directory: string, asked: Promise<T>): Promise<T> {
  while (!(await settles(asked, PATIENCE_MS))) {
    if (await answers(directory)) continue
    // It may still come, and is nobody's then.
    asked.catch(() => {})
    throw new Fault('UNAVAILABLE', `the monitor in ${directory} does not answer`)
  }
  return asked
}

async function answers(directory: string): Promise<boolean> {
  try {
    using monitor = await connectMonitor(directory)
    return (await askMonitor(monitor)) !== undefined
  } catch (error) {
    if (error instanceof Fault) return false
    throw error
  }
}

/** Kills a monitor that hangs; the caller knows that it lives. */
export function killMonitor(directory: string, id: string, warn: (text: string) => void): void {
  const pid = readStatus(directory)?.monitor ?? 0
  try {
    if (pid > 1 && monitorOf(String(pid)) === id) process.kill(pid, 'SIGKILL')
  } catch (error) {
    warn(`cannot kill the monitor in ${directory}, which does not answer: ${describe(error)}`)
  }
}

/** Kills those monitors of these pods of which somebody has removed the directory, such as all below /run: nobody can reach them, or what runs under them, any more. */
export function killStranded(ids: ReadonlySet<string>, warn: (text: string) => void): void {
  if (ids.size === 0) return
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      const id = monitorOf(pid)
      if (id === undefined || !ids.has(id)) continue
      warn(`the monitor of pod ${id} lives and its directory is gone: it is killed`)
      process.kill(Number(pid), 'SIGKILL')
    } catch (error) {
      // It has ended meanwhile.
      if (!isErrno(error, 'ENOENT', 'ESRCH')) throw error
    }
  }
}

/** The id that a process serves as a monitor. Nothing else has an id among its arguments under this name. */
function monitorOf(pid: string): string | undefined {
  const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  return command[0] === 'berth-monitor' ? command[2] : undefined
}
