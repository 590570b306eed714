import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { destroyCgroup } from '../container/index.ts'
import { isMonitorAlive } from '../container/monitor.ts'
import { releaseAbandonedRanges } from './idmap.ts'
import { detachContainer } from './network.ts'
import type { Engine } from './open.ts'
import { containerIds, lockContainer, readRecord } from './record.ts'
import { removeFiles } from './remove.ts'
import { readRunMark, writeLostExit } from './status.ts'
import type { ContainerRecord } from './types.ts'

/**
 * Takes away what a container's dead monitor left: its processes, cgroup, network and sockets, and writes the exit record that nobody wrote. The caller
 * holds the container's lock. With a living monitor or nothing left it does nothing.
 */
export async function recover(engine: Engine, record: ContainerRecord): Promise<void> {
  const live = engine.at.live(record.id)
  if (existsSync(live)) {
    if (isMonitorAlive(live)) return
    const cgroup = readRunMark(engine, record.id)?.cgroup
    if (cgroup) await destroyCgroup(cgroup)
    rmSync(live, { recursive: true, force: true })
  }
  writeLostExit(engine, record.id)
  await detachContainer(engine, record.id, { namespaceGone: true })
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
    if (record) await recover(engine, record)
    else {
      await removeFiles(engine, id, undefined)
      removed.push(id)
    }
  }
  const known = new Set(containerIds(engine))
  const stateDirectory = join(engine.state, 'containers')
  for (const id of readdirSync(stateDirectory)) {
    const live = join(stateDirectory, id)
    if (!known.has(id) && !isMonitorAlive(live)) rmSync(live, { recursive: true, force: true })
  }
  releaseAbandonedRanges(engine)
  return removed
}
