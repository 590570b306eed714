import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { destroyCgroup } from '../container/index.ts'
import { connectMonitor, isMonitorAlive } from '../container/monitor.ts'
import { lockFile } from '../kernel/lock.ts'
import { releaseAbandonedRanges } from './idmap.ts'
import { detachContainer } from './network.ts'
import type { Engine } from './open.ts'
import { containerIds, lockContainer, readRecord, releaseName } from './record.ts'
import { removeFiles } from './remove.ts'
import { containerStatus, readRunMark, writeLostExit } from './status.ts'
import { removeTree } from './trees.ts'
import type { ContainerRecord } from './types.ts'

/**
 * Takes away what an ended container has left: the monitor that still holds its network, or after a monitor that was killed its processes and cgroup,
 * and writes the exit record that nobody wrote. The caller holds the container's lock. With a live container or nothing left it does nothing.
 */
export async function recover(engine: Engine, record: ContainerRecord): Promise<void> {
  const live = engine.at.live(record.id)
  if (existsSync(live)) {
    if (isMonitorAlive(live)) {
      const { state } = containerStatus(engine, record)
      if (state === 'running' || state === 'paused') return
      await detachContainer(engine, record.id, { namespaceGone: false })
      await endMonitor(live, record.id)
    }
    const cgroup = readRunMark(engine, record.id)?.cgroup
    if (cgroup) await destroyCgroup(cgroup)
    rmSync(live, { recursive: true, force: true })
  }
  writeLostExit(engine, record.id)
  await detachContainer(engine, record.id, { namespaceGone: true })
}

/** Ends a living monitor and what it holds: a stopped container's network, or the first process of a start that was killed before the program ran. */
export async function endMonitor(live: string, id: string): Promise<void> {
  const monitor = await connectMonitor(live).catch(() => undefined)
  if (monitor) {
    await monitor.signal(id, { signal: 9, all: true, stop: true }).catch(() => {
      // Nothing of it is alive: the usual case.
    })
    await monitor.quit().catch(() => {
      // It has ended between the question and the answer: what was asked for.
    })
    monitor.close()
  }
  const lock = await lockFile(join(live, 'alive'), { exclusive: true })
  lock.release()
}

/**
 * What killed commands left half made anywhere below the roots: containers without record, names and id ranges without container, state without
 * monitor. Returns the ids of containers taken away.
 */
export async function removeDebris(engine: Engine): Promise<string[]> {
  const removed: string[] = []
  for (const id of containerIds(engine)) {
    using _lock = await lockContainer(engine, id)
    const record = readRecord(engine, id)
    if (record) {
      await recover(engine, record)
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
  // What removeTree had renamed when it was killed.
  for (const name of readdirSync(engine.at.containers)) {
    if (name.endsWith('.trash')) await removeTree(join(engine.at.containers, name))
  }
  releaseAbandonedRanges(engine)
  return removed
}

/** A second name is left by a rename that was killed. The caller holds the lock. */
function releaseOtherNames(engine: Engine, record: ContainerRecord): void {
  for (const name of readdirSync(engine.at.names)) {
    if (name !== record.name) releaseName(engine, name, record.id)
  }
}
