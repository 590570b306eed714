import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { destroyCgroup } from '../container/index.ts'
import { isMonitorAlive } from '../container/monitor.ts'
import { emit, keepDeath } from './events.ts'
import { releaseRanges } from './idmap.ts'
import { detachContainer } from './network.ts'
import type { Engine } from './open.ts'
import { lockContainer, readRecord, releaseName, resolveId } from './record.ts'
import { endMonitor, recover } from './recover.ts'
import { about } from './start.ts'
import { containerStatus, readRunMark } from './status.ts'
import { stopLocked } from './stop.ts'
import { removeTree } from './trees.ts'
import type { ContainerRecord } from './types.ts'
import { removeVolume, volumeUsers } from './volume.ts'

/** Removes a container that is not running, or with `force` any. `volumes` takes its anonymous volumes too. */
export async function removeContainer(
  engine: Engine,
  ref: string,
  options: { force: boolean; volumes: boolean },
): Promise<void> {
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record = readRecordOrForce(engine, id, options.force)
  if (!record) {
    // Another command was faster, or a create was killed half way.
    await removeFiles(engine, id, undefined)
    return
  }
  const { state } = containerStatus(engine, record)
  if (state === 'running' || state === 'paused') {
    if (!options.force) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot remove container ${record.name}: it is ${state}; stop it first, or remove it with -f`,
      )
    }
    await stopLocked(engine, record, { timeoutS: 0, signal: 9 })
  }
  await recover(engine, record, { removing: true })
  keepDeath(engine, record)
  await removeFiles(engine, id, record)
  if (options.volumes) {
    for (const volume of record.volumes) {
      if (volume.anonymous && volumeUsers(engine, volume.name).length === 0) {
        await removeVolume(engine, volume.name, { force: true })
      }
    }
  }
  emit(engine, about(record, 'destroy'))
}

/** A damaged record stands in the way of everything but a forced removal. */
function readRecordOrForce(
  engine: Engine,
  id: string,
  force: boolean,
): ContainerRecord | undefined {
  try {
    return readRecord(engine, id)
  } catch (error) {
    if (!force) throw error
    return
  }
}

/**
 * Every file of a container, the record first: killed in between, what is left has no record, and the next command takes the rest. The caller holds the lock.
 */
export async function removeFiles(
  engine: Engine,
  id: string,
  record: ContainerRecord | undefined,
): Promise<void> {
  const cgroup = readRunMark(engine, id)?.cgroup
  // Of a container whose record is damaged; otherwise it has been ended before.
  const live = engine.at.live(id)
  if (isMonitorAlive(live)) await endMonitor(live, id, { removing: true })
  rmSync(engine.at.record(id), { force: true })
  if (record) releaseName(engine, record.name, id)
  else for (const name of readdirSync(engine.at.names)) releaseName(engine, name, id)
  if (cgroup) await destroyCgroup(cgroup)
  await detachContainer(engine, id, { namespaceGone: true })
  releaseRanges(engine, id)
  rmSync(live, { recursive: true, force: true })
  await removeTree(engine.at.container(id))
  rmSync(join(engine.at.locks, id), { force: true })
}
