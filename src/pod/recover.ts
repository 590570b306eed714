import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny, readJsonIfAny } from '../base/file.ts'
import { destroyCgroup } from '../container/index.ts'
import {
  connectMonitor,
  isMonitorAlive,
  type Monitor,
  type MonitorContainer,
  type MonitorStatus,
} from '../container/monitor.ts'
import { isId } from '../engine/record.ts'
import { removeTree } from '../engine/trees.ts'
import { type FileLock, tryLockFile } from '../kernel/lock.ts'
import { adopt, endLost, readExit, readRunMark, watch } from './adopt.ts'
import { isCutOff } from './cut-off.ts'
import { Container, Pod } from './model.ts'
import type { Node } from './node.ts'
import { CREATED, exitedStatus } from './status.ts'
import { endPodMonitor, stopPod } from './stop-pod.ts'
import type { ContainerRecord, PodRecord } from './types.ts'
import { within } from './wait.ts'

/** A monitor that does not answer in this time is taken by the file that it wrote last: one that hangs must not keep a node from starting. */
const MONITOR_ANSWER_MS = 10_000

/** Makes the node's index out of what is on the disk and what lives: what a daemon does before it answers. The lock is the daemon's for its life. */
export async function recoverNode(node: Node): Promise<FileLock> {
  const { at } = node
  for (const path of [at.pods, at.live]) mkdirSync(path, { recursive: true, mode: 0o700 })
  const lock = tryLockFile(at.lock, { exclusive: true })
  if (!lock) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `another berth serve works with ${at.root}: stop that one, or give other --root and --state`,
    )
  }
  try {
    await Promise.all(readdirSync(at.pods).map((name) => recoverOrTell(node, name)))
    const abandoned = readdirSync(at.live).filter((name) => isId(name) && !node.pods.has(name))
    for (const name of abandoned) await endAbandoned(node, name)
    // With what debris and damaged pods have left.
    await node.networks.collect([...node.pods.keys()])
  } catch (error) {
    lock.release()
    throw error
  }
  return lock
}

/** One pod that cannot be read keeps neither the daemon from starting nor the others from being there. */
async function recoverOrTell(node: Node, name: string): Promise<void> {
  const path = join(node.at.pods, name)
  try {
    if (!isId(name)) {
      // What removeTree had renamed when it was killed.
      if (name.endsWith('.trash')) await removeTree(path)
      return
    }
    const file = node.at.podRecord(name)
    const record = isCutOff(file) ? undefined : readRecord<PodRecord>(file, name)
    if (record) await recoverPod(node, record)
    else await removeDebris(node, name)
  } catch (error) {
    await quarantine(node, name, path, error)
  }
}

/** Undefined where there is none; DATA_LOSS where it is damaged. */
function readRecord<T extends { readonly id: string }>(path: string, id: string): T | undefined {
  const value = readJsonIfAny(path)
  if (value === undefined) return
  if (typeof value === 'object' && value !== null && 'id' in value && value.id === id)
    return value as T
  throw new Fault('DATA_LOSS', `${path} is damaged: it is no record of ${id.slice(0, 12)}`)
}

async function recoverPod(node: Node, record: PodRecord): Promise<void> {
  const { at } = node
  const pod = new Pod(record)
  pod.stopped = existsSync(at.stopped(record.id))
  const live = await living(node, pod)
  if (live) pod.addresses = node.networks.of(record.id)?.addresses ?? []
  for (const id of readdirSync(at.containers(record.id))) {
    const path = at.container(record.id, id)
    try {
      if (isCutOff(at.record(record.id, id))) {
        await removeTree(path)
        continue
      }
      const found = isId(id) ? readRecord<ContainerRecord>(at.record(record.id, id), id) : undefined
      if (found) await recoverContainer(node, pod, found, live?.containers[id])
      else await removeContainerDebris(node, pod, id, path)
    } catch (error) {
      await quarantine(node, `${record.id.slice(0, 12)}-${id}`, path, error)
    }
  }
  adopt(node, pod)
  if (!live) {
    await node.networks
      .detach(record.id, { netns: '' })
      .catch((error) => node.warn(`pod ${record.id}: ${describe(error)}`))
    rmSync(at.monitor(record.id), { recursive: true, force: true })
  } else if (pod.stopped) {
    // The daemon before was killed in the middle of it.
    void stopPod(node, pod.id).catch((error) => node.warn(`pod ${pod.id}: ${describe(error)}`))
  }
}

/** Connects to the pod's monitor; undefined where none lives. */
async function living(node: Node, pod: Pod): Promise<MonitorStatus | undefined> {
  const directory = node.at.monitor(pod.id)
  if (!isMonitorAlive(directory)) return
  let monitor: Monitor
  try {
    monitor = await connectMonitor(directory)
  } catch (error) {
    if (!isMonitorAlive(directory)) return
    throw error
  }
  let status: MonitorStatus | undefined
  const asked = monitor.status().then(
    (said) => {
      status = said
    },
    () => {},
  )
  if (!(await within(asked, MONITOR_ANSWER_MS))) {
    node.warn(`the monitor of pod ${pod.id} does not answer: taken as it said last`)
    const text = readFileIfAny(join(directory, 'status.json'))
    status = text === undefined ? undefined : (JSON.parse(text) as MonitorStatus)
  }
  if (!status) {
    monitor.close()
    return
  }
  pod.monitor = monitor
  pod.held = status.namespaces
  return status
}

async function recoverContainer(
  node: Node,
  pod: Pod,
  record: ContainerRecord,
  said: MonitorContainer | undefined,
): Promise<void> {
  const { id } = record
  const container = new Container(pod, record, CREATED)
  pod.containers.set(id, container)
  node.containers.set(id, container)
  const exit = readExit(node.at.exit(pod.id, id))
  if (exit) {
    container.status = exitedStatus(exit)
    return
  }
  const mark = readRunMark(node, container)
  if (!mark) return
  if (said) {
    container.cgroup = mark.cgroup
    container.status = { ...CREATED, state: 'running', pid: said.pid, startedNs: said.startedNs }
    watch(node, container)
    // A start that nobody has been told of: its process waits before its program for a word that will not come.
    if (said.state === 'created' || said.state === 'creating')
      await pod.monitor?.signal(id, { signal: 9, all: true, stop: true }).catch(() => {})
    return
  }
  if (!pod.monitor) {
    await endLost(node, container)
    return
  }
  // Marked as started, and its monitor has not heard of it: the daemon was killed in between.
  if (mark.cgroup !== '') await destroyCgroup(mark.cgroup)
  rmSync(node.at.run(pod.id, id), { force: true })
}

/** A pod that was being made or removed when the daemon was killed. */
async function removeDebris(node: Node, id: string): Promise<void> {
  await endAbandoned(node, id)
  await removeTree(node.at.pod(id))
}

/** Ends a monitor that no record vouches for, with all that runs under it. */
async function endAbandoned(node: Node, id: string): Promise<void> {
  const directory = node.at.monitor(id)
  const monitor = await connectMonitor(directory).catch(() => undefined)
  if (monitor) {
    const { containers = {} } = await monitor.status().catch(() => ({ containers: {} }))
    for (const each of Object.keys(containers))
      await monitor.signal(each, { signal: 9, all: true, stop: true }).catch(() => {})
    await monitor.quit().catch(() => {})
    monitor.close()
  }
  const gone = new Pod({ id, createdNs: '0' } as PodRecord)
  await endPodMonitor(node, gone)
  rmSync(directory, { recursive: true, force: true })
}

async function removeContainerDebris(
  node: Node,
  pod: Pod,
  id: string,
  path: string,
): Promise<void> {
  const mark = readJsonIfAny(node.at.run(pod.id, id)) as { cgroup?: string } | undefined
  await pod.monitor?.signal(id, { signal: 9, all: true, stop: true }).catch(() => {})
  if (mark?.cgroup) await destroyCgroup(mark.cgroup)
  await pod.monitor?.remove(id).catch(() => {})
  await removeTree(path)
}

/** What cannot be read is put aside for a person, and told in Status; what still runs of it is ended, for nobody could stop it any more. */
async function quarantine(node: Node, name: string, path: string, error: unknown): Promise<void> {
  const { at } = node
  const sentence = `${name.slice(0, 40)} could not be taken over and is in ${at.quarantine}: ${describe(error)}`
  node.damage.push(sentence)
  node.warn(sentence)
  try {
    if (isId(name)) {
      await endAbandoned(node, name)
      node.pods.delete(name)
    }
    mkdirSync(at.quarantine, { recursive: true, mode: 0o700 })
    renameSync(path, join(at.quarantine, `${name}-${Date.now()}`))
  } catch (failure) {
    if (!isErrno(failure, 'ENOENT')) node.warn(`${name}: ${describe(failure)}`)
  }
}
