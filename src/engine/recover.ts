import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { monotonicMs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { destroyCgroup } from '../container/index.ts'
import { connectMonitor, isMonitorAlive } from '../container/monitor.ts'
import { removeAbandoned } from './builder.ts'
import { thawAbandoned } from './freeze.ts'
import { releaseAbandonedRanges } from './idmap.ts'
import { detachContainer } from './network.ts'
import type { Engine } from './open.ts'
import {
  containerIds,
  isId,
  lockContainer,
  readRecord,
  releaseName,
  tryLockContainer,
} from './record.ts'
import { removeFiles } from './remove.ts'
import { containerStatus, isOwed, readRunMark, writeLostExit } from './status.ts'
import { removeTree } from './trees.ts'
import type { ContainerRecord } from './types.ts'

/**
 * Takes away what an ended container has left: the monitor that still holds its network, or after a monitor that was killed its processes and cgroup,
 * and writes the exit record that nobody wrote, unless the container is being removed. A live one that a killed berth has left frozen runs on. The caller
 * holds the container's lock. With nothing left it does nothing.
 */
export async function recover(
  engine: Engine,
  record: ContainerRecord,
  options: { removing: boolean } = { removing: false },
): Promise<void> {
  const live = engine.at.live(record.id)
  if (existsSync(live)) {
    if (isMonitorAlive(live)) {
      const status = containerStatus(engine, record)
      if (status.state === 'running' || status.state === 'paused') {
        await thawAbandoned(engine, record.id)
        return
      }
      await detachContainer(engine, record.id, { namespaceGone: false })
      await endMonitor(live, record.id, {
        ...options,
        patienceMs: isOwed(status) ? OWED_RECORD_MS : MONITOR_END_MS,
      })
    }
    const cgroup = readRunMark(engine, record.id)?.cgroup
    if (cgroup) await destroyCgroup(cgroup)
    if (!options.removing) rmSync(live, { recursive: true, force: true })
  }
  // removeFiles takes the rest. An exit record nobody would read, and on a full disk it would keep from removing what fills it.
  if (options.removing) return
  writeLostExit(engine, record.id)
  await detachContainer(engine, record.id, { namespaceGone: true })
}

/**
 * Ends a living monitor and what it holds: a stopped container's network, or the first process of a start that was killed before the program ran. One that
 * still owes an exit record, for the disk is full, ends only with `removing`.
 */
export async function endMonitor(
  live: string,
  id: string,
  options: { removing: boolean; patienceMs?: number },
): Promise<void> {
  const monitor = await connectMonitor(live).catch(() => undefined)
  if (monitor) {
    const ignored = (): void => {
      // Nothing of it is alive, or it has ended between the question and the answer: the usual case.
    }
    await monitor.signal(id, { signal: 9, all: true, stop: true }).catch(ignored)
    if (options.removing) {
      await monitor.wait(id).catch(ignored)
      await monitor.remove(id).catch(ignored)
    }
    await monitor.quit().catch(ignored)
    monitor.close()
  }
  await monitorGone(live, id, options.patienceMs ?? MONITOR_END_MS)
}

/** Time that a monitor gets to end. */
const MONITOR_END_MS = 10_000
/** It tries to write the record every second. */
const OWED_RECORD_MS = 2000

/** Resolves when the monitor is gone. Not by waiting for the lock: a wait in the kernel cannot be given up. */
async function monitorGone(live: string, id: string, patienceMs: number): Promise<void> {
  const until = monotonicMs() + patienceMs
  for (let pauseMs = 1; isMonitorAlive(live); pauseMs = Math.min(pauseMs * 2, 100)) {
    if (monotonicMs() > until) {
      throw new Fault(
        'UNAVAILABLE',
        `the monitor of container ${id.slice(0, 12)} does not end; where the disk is full it waits for room for the exit record`,
      )
    }
    await delay(pauseMs)
  }
}

/**
 * What killed commands left half made anywhere below the roots: containers without record, or of a build that is gone, names and id ranges without
 * container, state without monitor. Returns the ids of containers taken away.
 */
export async function removeDebris(engine: Engine): Promise<string[]> {
  const removed = await removeAbandoned(engine)
  for (const id of containerIds(engine)) {
    using _lock = await lockContainer(engine, id)
    const record = readRecord(engine, id)
    if (record) {
      await recoverOrTell(engine, record)
      releaseOtherNames(engine, record)
    } else {
      await removeFiles(engine, id, undefined)
      removed.push(id)
    }
  }
  const stateDirectory = join(engine.state, 'containers')
  const states = readdirSync(stateDirectory)
  // After the list: a container has its directory below ROOT before it has one here.
  const known = new Set(containerIds(engine))
  for (const id of states) {
    const live = join(stateDirectory, id)
    if (!known.has(id) && !isMonitorAlive(live)) rmSync(live, { recursive: true, force: true })
  }
  for (const name of readdirSync(engine.at.locks)) {
    // Of a command that was killed while it waited for a container that was removed: taking it removes it.
    if (isId(name) && !known.has(name)) tryLockContainer(engine, name)?.release()
  }
  // What removeTree had renamed when it was killed.
  for (const name of readdirSync(engine.at.containers)) {
    if (name.endsWith('.trash')) await removeTree(join(engine.at.containers, name))
  }
  releaseAbandonedRanges(engine)
  return removed
}

/** One container that cannot be put in order now does not keep the others waiting. */
async function recoverOrTell(engine: Engine, record: ContainerRecord): Promise<void> {
  try {
    await recover(engine, record)
  } catch (error) {
    engine.warn(`container ${record.name} is not put in order: ${describe(error)}`)
  }
}

/** A second name is left by a rename that was killed. The caller holds the lock. */
function releaseOtherNames(engine: Engine, record: ContainerRecord): void {
  for (const name of readdirSync(engine.at.names)) {
    if (name !== record.name) releaseName(engine, name, record.id)
  }
}
