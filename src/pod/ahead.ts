/**
 * A container's first process is made while the container is: its mounts take the kernel some milliseconds, in which records are written, the call is answered and
 * the client turns round. The container is created until its start is asked for, whatever becomes of this: a process that comes to nothing, or is not wanted in time, is
 * taken back, and the start makes its own. `ahead.json` is there before anything else and becomes `run.json` with the start, by which a daemon after a kill knows the
 * one from the other.
 */
import { renameSync } from 'node:fs'
import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { removeFile, writeFileAtomic } from '../base/file.ts'
import { destroyCgroup } from '../container/index.ts'
import type { ContainerExit, Monitor } from '../container/monitor.ts'
import { bootId } from '../engine/status.ts'
import type { Spec } from '../spec/runtime.ts'
import { containersParent } from './cgroup.ts'
import { type MadeProcess, makeFirstProcess } from './first-process.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { cgroupOf, type RunMark } from './records.ts'
import type { ContainerRecord } from './types.ts'

/** A start that does not come in this time makes its own. */
const AHEAD_MS = 10_000
/** Of all pods: a client that makes containers and starts none has no more processes than this. */
const AHEAD_MAX = 32
const SIGKILL = 9

export class Ahead {
  readonly monitor: Monitor | undefined
  readonly cgroup: string
  readonly made: Promise<MadeProcess>
  /** Its end, which the monitor tells. */
  ended: Promise<ContainerExit> | undefined
  /** No start may take it any more. */
  isGivenUp = false
  timer: NodeJS.Timeout | undefined

  constructor(monitor: Monitor | undefined, cgroup: string, made: Promise<MadeProcess>) {
    this.monitor = monitor
    this.cgroup = cgroup
    this.made = made
    made.catch(() => {})
  }
}

/**
 * Whether this is done for a container: for what joins no process of others, which may be another one when the start comes; in a PID namespace of its own, for whoever
 * shares one can stop what waits there; and without users of its own, which may cost a copy of the image.
 */
export function isMadeAhead(
  node: Node,
  { spec, sharedMemory }: { spec: Spec; sharedMemory: ContainerRecord['sharedMemory'] },
): boolean {
  const namespaces = spec.linux?.namespaces ?? []
  return (
    node.ahead.size < AHEAD_MAX &&
    sharedMemory !== 'target' &&
    namespaces.some(({ type, path }) => type === 'pid' && path === undefined) &&
    !namespaces.some(({ type, path = '' }) => type === 'user' || /^\/proc\/\d+\/ns\//.test(path))
  )
}

/**
 * Has the first process of a container made that is not there yet itself: resolves when the monitor is at work, or it has come to nothing; rejects where the
 * configuration cannot be started.
 */
export async function makeAhead(node: Node, container: Container): Promise<void> {
  const { pod, id } = container
  const { monitor } = pod
  if (!monitor || !pod.isReady) return
  const cgroup = cgroupOf(containersParent(pod.record), id)
  let isJudged = false
  let tellAsked = (): void => {}
  const asked = new Promise<void>((resolve) => {
    tellAsked = resolve
  })
  const made = makeFirstProcess(node, container, {
    monitor,
    start: false,
    beforeCreate: () => {
      isJudged = true
      const mark: RunMark = { bootId: bootId(), cgroup, startNs: String(nowNs()) }
      writeFileAtomic(node.at.ahead(pod.id, id), JSON.stringify(mark), { prepared: true })
    },
    afterAsked: () => tellAsked(),
  })
  const ahead = new Ahead(monitor, cgroup, made)
  container.ahead = ahead
  node.ahead.set(id, container)
  const giveUp = (): void => {
    if (container.ahead !== ahead) return
    void node.turns.take(id, async () => {
      if (container.ahead === ahead) await takeBackOrTell(node, container)
    })
  }
  ahead.timer = setTimeout(giveUp, AHEAD_MS).unref()
  // One that is killed while it waits was no run of the container.
  const watched = made.then(() => {
    ahead.ended = monitor.wait(id)
    ahead.ended.then(giveUp, () => {})
  })
  watched.catch(giveUp)
  try {
    await Promise.race([asked, made])
  } catch (error) {
    if (!isJudged) throw error
  }
}

/** For a daemon that finds the mark of one before it. */
export function foundAhead(node: Node, container: Container): void {
  const { pod, id } = container
  const cgroup = cgroupOf(containersParent(pod.record), id)
  const lost = Promise.reject(new Fault('UNAVAILABLE', 'the daemon that made it has ended'))
  container.ahead = new Ahead(pod.monitor, cgroup, lost)
  container.ahead.isGivenUp = true
  node.ahead.set(id, container)
}

/** Has a process that was made ahead run its program; undefined where there is none, or nothing has come of it and nothing of it is left. In the container's turn. */
export async function startAhead(
  node: Node,
  container: Container,
): Promise<MadeProcess | undefined> {
  const { ahead, pod, id } = container
  if (!ahead) return
  try {
    if (ahead.isGivenUp) return await takeBack(node, container)
    const made = await unlessHung(node.at.monitor(pod.id), ahead.made)
    const { monitor } = pod
    if (!monitor || ahead.isGivenUp) return await takeBack(node, container)
    renameSync(node.at.ahead(pod.id, id), node.at.run(pod.id, id))
    const started = monitor.start(id)
    // Its caller may fail before it waits for this.
    started.catch(() => {})
    forgetAhead(node, container)
    container.cgroup = ahead.cgroup
    return { ...made, started, ended: monitor === ahead.monitor ? ahead.ended : undefined }
  } catch (error) {
    // A monitor that hangs, or whose connection is lost, is no better asked twice.
    if (error instanceof Fault && error.code === 'UNAVAILABLE') throw error
    await takeBack(node, container)
    return
  }
}

function forgetAhead(node: Node, container: Container): void {
  clearTimeout(container.ahead?.timer)
  container.ahead = undefined
  node.ahead.delete(container.id)
}

/**
 * Ends what was made ahead: the container is created as it was before. In its turn. Where its monitor hangs or is lost, the group is emptied all the same, and
 * whoever comes next asks the monitor again.
 */
export async function takeBack(node: Node, container: Container): Promise<undefined> {
  const { ahead, pod, id } = container
  if (!ahead) return
  ahead.isGivenUp = true
  clearTimeout(ahead.timer)
  const isForgotten = await forget(node, container, ahead)
  await destroyCgroup(ahead.cgroup)
  if (!isForgotten) return
  const { at } = node
  // Its end is none of the container's, unless a start has failed meanwhile. The mark last: as long as it is there, that is known.
  if (container.status.state === 'created') removeFile(at.exit(pod.id, id))
  for (const path of [at.plan, at.ahead]) removeFile(path(pod.id, id))
  forgetAhead(node, container)
}

/** The same where nothing else may fail with it: whoever comes next tries again. */
export async function takeBackOrTell(node: Node, container: Container): Promise<void> {
  try {
    await takeBack(node, container)
  } catch (error) {
    node.warn(`container ${container.id}: ${describe(error)}`)
  }
}

/** Whether the monitor knows nothing of it any more. */
async function forget(node: Node, { pod, id }: Container, { made }: Ahead): Promise<boolean> {
  const directory = node.at.monitor(pod.id)
  const ignored = made.then(
    () => {},
    () => {},
  )
  try {
    await unlessHung(directory, ignored)
    const { monitor } = pod
    if (monitor) await unlessHung(directory, end(monitor, id))
    return true
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    if (error.code === 'NOT_FOUND' || !pod.monitor) return true
    made.then((late) => late.undo()).catch(() => {})
    return false
  }
}

async function end(monitor: Monitor, id: string): Promise<void> {
  const ended = monitor.wait(id)
  ended.catch(() => {})
  // It may have ended by itself.
  await monitor.signal(id, { signal: SIGKILL, all: true, stop: true }).catch((error) => {
    if (!(error instanceof Fault)) throw error
  })
  await ended
  await monitor.remove(id)
}
