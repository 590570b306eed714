import { openSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { connectMonitor, type Monitor } from '../container/monitor.ts'
import { O_DIRECTORY, O_PATH } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import type { Engine } from './open.ts'
import { containerStatus } from './status.ts'
import type { Container, ContainerRecord } from './types.ts'

/** It was running when it was looked at, a moment ago. */
function justStopped(record: ContainerRecord): Fault {
  return new Fault('FAILED_PRECONDITION', `container ${record.name} has just stopped`)
}

/** The monitor of a container that was found running. */
export async function monitorOf(engine: Engine, record: ContainerRecord): Promise<Monitor> {
  try {
    return await connectMonitor(engine.at.live(record.id))
  } catch (error) {
    const { state } = containerStatus(engine, record)
    if (state === 'running' || state === 'paused') throw error
    throw justStopped(record)
  }
}

/** The root of a running container, with all its mounts, as a directory fd. Everything below it is the container's to change at any time. */
export function openRoot(engine: Engine, { record, status }: Container): Fd {
  let root: Fd
  try {
    root = new Fd(openSync(`/proc/${status.pid}/root`, O_PATH | O_DIRECTORY))
  } catch (error) {
    // A zombie has no root.
    if (isErrno(error, 'ENOENT', 'ESRCH', 'ENOTDIR')) throw justStopped(record)
    throw error
  }
  // The pid was this container's only if it still is: until its monitor has told its end, no other process can have it.
  if (containerStatus(engine, record).pid === status.pid) return root
  root.close()
  throw justStopped(record)
}
