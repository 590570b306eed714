import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { within } from '../base/within.ts'
import { destroyCgroup } from '../container/index.ts'
import { isMonitorAlive, type MonitorContainer, type MonitorStatus } from '../container/monitor.ts'
import { isId } from '../engine/record.ts'
import { removeTree } from '../engine/trees.ts'
import { type FileLock, tryLockFile } from '../kernel/lock.ts'
import { adopt, endLost, endRemains, watch, writeExit } from './adopt.ts'
import { foundAhead, takeBackOrTell } from './ahead.ts'
import { containersParent } from './cgroup.ts'
import { isCutOff } from './cut-off.ts'
import { askMonitor, killMonitor, killStranded, MONITOR_ANSWER_MS, reachMonitor } from './hung.ts'
import { Container, Pod } from './model.ts'
import type { Node } from './node.ts'
import {
  cgroupOf,
  isOnlyAhead,
  mustReadAnyMark,
  mustReadExit,
  mustReadRunMark,
  type RunMark,
  readContainerRecord,
  readMaking,
  readPodRecord,
  readRunMark,
  readSpec,
  readStatus,
} from './records.ts'
import { removeParent } from './remove.ts'
import { CREATED, exitedStatus } from './status.ts'
import { endMonitor, stopPod } from './stop-pod.ts'
import { emptyTrash } from './trash.ts'
import type { ContainerRecord, PodRecord } from './types.ts'
import { finishUpdate } from './update-container.ts'
import { within as settles } from './wait.ts'

/** Of a pod's recovery; some milliseconds are usual. */
const SLOW_MS = 3000

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
    node.monitors.recover()
    emptyTrash(node)
    const names = readdirSync(at.pods)
    const unreached = names.filter((name) => isId(name) && !isMonitorAlive(at.monitor(name)))
    killStranded(new Set(unreached), node.engine.warn)
    await Promise.all(names.map((name) => toldIfSlow(node, name, recoverOrTell(node, name))))
    const abandoned = readdirSync(at.live).filter((name) => isId(name) && !node.pods.has(name))
    await Promise.all(abandoned.map((name) => toldIfSlow(node, name, endAbandoned(node, name))))
  } catch (error) {
    lock.release()
    throw error
  }
  // Plugins take their time, and one that hangs must not keep the daemon from answering.
  void giveBackNetworks(node).catch((error) =>
    node.warn(`networks are not collected: ${describe(error)}`),
  )
  return lock
}

/** The daemon answers nobody until all pods are taken over: which one has kept it. */
async function toldIfSlow(node: Node, name: string, work: Promise<void>): Promise<void> {
  const begin = performance.now()
  await work
  const ms = Math.round(performance.now() - begin)
  if (ms > SLOW_MS) node.warn(`pod ${name} has kept the start waiting for ${ms} ms`)
}

/** Of pods that are not alive, of debris and of damaged pods. */
async function giveBackNetworks(node: Node): Promise<void> {
  const ended = [...node.pods.values()].filter(({ monitor }) => !monitor)
  const left = node.networks.leftBeside([...node.pods.keys()])
  await Promise.all(
    ended.map(({ id }) =>
      node.networks
        .detach(id, { netns: '' })
        .catch((error) => node.warn(`pod ${id}: ${describe(error)}`)),
    ),
  )
  await node.networks.collect(left)
}

/** One pod that cannot be read keeps neither the daemon from starting nor the others from being there. */
async function recoverOrTell(node: Node, name: string): Promise<void> {
  const path = join(node.at.pods, name)
  try {
    if (!isId(name)) {
      // What removeTree had renamed when it was killed, or failed.
      if (name.endsWith('.trash'))
        await removeTree(path).catch((error) =>
          node.warn(`what is left of a removed pod stays at ${path}: ${describe(error)}`),
        )
      return
    }
    const record = isCutOff(node.at.podRecord(name)) ? undefined : readPodRecord(node, name)
    if (record) await recoverPod(node, record)
    else await removeDebris(node, name)
  } catch (error) {
    refuseIfShort(error)
    await quarantinePod(node, name, path, error)
  }
}

/** A shortage of the moment is no damage of a pod: the daemon is started again later, and the pods go on meanwhile. */
function refuseIfShort(error: unknown): void {
  if (isErrno(error, 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN')) throw error
}

async function recoverPod(node: Node, record: PodRecord): Promise<void> {
  const { at } = node
  const pod = new Pod(record)
  pod.stopped = existsSync(at.stopped(record.id))
  const said = await living(node, pod)
  if (said) pod.addresses = addressesOf(node, pod)
  // Side by side: each may have to wait for the monitor.
  const names = readdirSync(at.containers(record.id))
  await Promise.all(names.map((name) => recoverContainerOrTell(node, pod, name, said)))
  adopt(node, pod)
  if (!said) {
    await endRemains(node, pod)
    rmSync(at.monitor(record.id), { recursive: true, force: true })
  } else if (pod.stopped) {
    // The daemon before was killed in the middle of it.
    void stopPod(node, pod.id).catch((error) => node.warn(`pod ${pod.id}: ${describe(error)}`))
  }
}

async function recoverContainerOrTell(
  node: Node,
  pod: Pod,
  name: string,
  said: Said | undefined,
): Promise<void> {
  const path = node.at.container(pod.id, name)
  try {
    if (isCutOff(node.at.record(pod.id, name))) return await removeTree(path)
    const found = isId(name) ? readContainerRecord(node, pod.id, name) : undefined
    if (found) await recoverContainer(node, pod, found, said)
    else await removeContainerDebris(node, pod, name, path)
  } catch (error) {
    refuseIfShort(error)
    await quarantineContainer(node, pod, name, path, error)
  }
}

function addressesOf(node: Node, { id }: Pod): readonly string[] {
  try {
    return node.networks.of(id)?.addresses ?? []
  } catch (error) {
    tellDamage(node, `the network record of pod ${id.slice(0, 12)} cannot be used`, error)
    return []
  }
}

interface Said {
  readonly containers: Readonly<Record<string, MonitorContainer>>
  /** It is what the monitor wrote last, some time ago: what is not in there may be so all the same. */
  readonly isOld: boolean
}

/** Connects to the pod's monitor; undefined where none lives. */
async function living(node: Node, pod: Pod): Promise<Said | undefined> {
  const monitor = await reachMonitor(node.at.monitor(pod.id))
  if (!monitor) return
  pod.monitor = monitor
  const status = await askMonitor(monitor)
  if (status) {
    pod.held = status.namespaces
    return { containers: status.containers, isOld: false }
  }
  // It has died since, or it hangs: one that hangs must not keep a node from starting.
  if (!isMonitorAlive(node.at.monitor(pod.id))) {
    monitor.close()
    pod.monitor = undefined
    return
  }
  node.warn(`the monitor of pod ${pod.id} does not answer: taken as it said last`)
  const old: Partial<MonitorStatus> = readStatus(node.at.monitor(pod.id)) ?? {}
  pod.held = old.namespaces ?? {}
  return { containers: old.containers ?? {}, isOld: true }
}

async function recoverContainer(
  node: Node,
  pod: Pod,
  record: ContainerRecord,
  said: Said | undefined,
): Promise<void> {
  const { id } = record
  const container = new Container(pod, record, CREATED)
  pod.containers.set(id, container)
  node.containers.set(id, container)
  undamaged(node, node.at.config(pod.id, id), () => readSpec(node, pod.id, id))
  if (isOnlyAhead(node, pod.id, id)) {
    foundAhead(node, container)
    // A monitor that hangs is asked by whoever comes next, and a process that no signal ends (its file server is gone) is waited for while the daemon answers.
    if (said?.isOld) return
    const turn = node.turns.take(id, () => takeBackOrTell(node, container))
    await settles(turn, MONITOR_ANSWER_MS)
    return
  }
  const exit = undamaged(node, node.at.exit(pod.id, id), () =>
    mustReadExit(node.at.exit(pod.id, id)),
  )
  if (exit) {
    container.status = exitedStatus(exit)
    return
  }
  // With what can be known without it, it is not set aside but told.
  const mark = readRunMark(node, container)
  undamaged(node, node.at.run(pod.id, id), () => mustReadRunMark(node, pod.id, id))
  const own = said?.containers[id]
  if (own) await takeOver(node, container, own, mark, said?.isOld ?? false)
  else if (!mark) return
  else if (!pod.monitor) await endLost(node, container)
  else if (said?.isOld) await takeOver(node, container, undefined, mark, true)
  // Marked as started, and its monitor has not heard of it: the daemon was killed in between.
  else await undoStart(node, container, mark.cgroup)
}

/** Takes up a container that its monitor knows. */
async function takeOver(
  node: Node,
  container: Container,
  own: MonitorContainer | undefined,
  mark: RunMark | undefined,
  isOld: boolean,
): Promise<void> {
  const { pod, id } = container
  const cgroup = mark?.cgroup ?? cgroupOf(containersParent(pod.record), id)
  if (!isOld && own?.state === 'stopped' && (await takeExit(node, container))) return
  // A start that nobody has been told of: its process waits before its program for a word that will not come.
  if (!isOld && (own?.state === 'created' || own?.state === 'creating')) {
    if (await endUnstarted(container)) return undoStart(node, container, cgroup)
  }
  container.cgroup = cgroup
  const startedNs = own && own.startedNs !== '0' ? own.startedNs : (mark?.startNs ?? '0')
  container.status = { ...CREATED, state: 'running', pid: own?.pid ?? 0, startedNs }
  await finishUpdate(node, container)
  watch(node, container)
}

/**
 * It has ended, and its record could not be written (a full disk) or was damaged since: its monitor still knows. False where that hangs just now: it is told, and
 * written, when it answers.
 */
async function takeExit(node: Node, container: Container): Promise<boolean> {
  const { monitor } = container.pod
  if (!monitor) return true
  const told = monitor.wait(container.id).then((exit) => {
    writeExit(node, container, exit)
    return exit
  })
  try {
    container.status = exitedStatus(await within(MONITOR_ANSWER_MS, told))
    return true
  } catch (error) {
    // A hanging monitor is no damage of the container.
    if (!(error instanceof Fault)) throw error
    told.catch(() => {})
    node.warn(`the exit of container ${container.id} is not known yet: ${describe(error)}`)
    return false
  }
}

/** Whether the process that was not started is gone, and its monitor has forgotten it. */
async function endUnstarted({ pod, id }: Container): Promise<boolean> {
  const { monitor } = pod
  if (!monitor) return false
  const ending = async (): Promise<void> => {
    const end = monitor.wait(id)
    // One that is just being made is no container yet, and needs no removal.
    end.catch(() => {})
    await monitor.signal(id, { signal: 9, all: true, stop: true })
    await end
    await monitor.remove(id)
  }
  try {
    await within(MONITOR_ANSWER_MS, ending())
  } catch (error) {
    return error instanceof Fault && error.code === 'NOT_FOUND'
  }
  return true
}

/** It is created again, as it was before the start that was cut short. */
async function undoStart(node: Node, { pod, id }: Container, cgroup: string): Promise<void> {
  await destroyCgroup(cgroup)
  rmSync(node.at.exit(pod.id, id), { force: true })
  rmSync(node.at.plan(pod.id, id), { force: true })
  rmSync(node.at.run(pod.id, id), { force: true })
}

/** A pod that was being made or removed when the daemon was killed. */
async function removeDebris(node: Node, id: string): Promise<void> {
  const making = readMaking(node, id)
  await endAbandoned(node, id)
  if (making) {
    await destroyCgroup(cgroupOf(containersParent(making), id))
    removeParent(making)
  }
  await removeTree(node.at.pod(id))
}

/** Ends a monitor that no record vouches for, with all that runs under it. */
async function endAbandoned(node: Node, id: string): Promise<void> {
  const directory = node.at.monitor(id)
  try {
    let monitor = await reachMonitor(directory)
    const status = monitor && (await askMonitor(monitor))
    if (!status && isMonitorAlive(directory)) {
      monitor?.close()
      monitor = undefined
      killMonitor(directory, id, node.engine.warn)
    }
    await Promise.all(
      Object.keys(status?.containers ?? {}).map((each) =>
        monitor?.signal(each, { signal: 9, all: true, stop: true }).catch(() => {}),
      ),
    )
    await endMonitor(node, id, monitor)
    await destroyMarked(node, id)
    rmSync(directory, { recursive: true, force: true })
  } catch (error) {
    node.warn(`cannot end what is left of pod ${id}: ${describe(error)}`)
  }
}

/** Destroys the groups of a pod's containers, as far as they are known: a monitor that was killed has left them. */
async function destroyMarked(node: Node, pod: string): Promise<void> {
  const at = node.at.containers(pod)
  for (const id of existsSync(at) ? readdirSync(at).filter(isId) : []) {
    const mark = ignoreDamage(() => mustReadAnyMark(node, pod, id))
    if (mark) await destroyCgroup(mark.cgroup)
  }
}

async function removeContainerDebris(
  node: Node,
  pod: Pod,
  id: string,
  path: string,
): Promise<void> {
  const mark = ignoreDamage(() => mustReadAnyMark(node, pod.id, id))
  await forget(pod, id)
  if (mark) await destroyCgroup(mark.cgroup)
  await removeTree(path)
}

/** Ends a container that has no record in its pod's monitor, where that one knows it. */
async function forget({ monitor }: Pod, id: string): Promise<void> {
  if (!monitor) return
  const end = monitor.wait(id)
  end.catch(() => {})
  const asked = [
    monitor.signal(id, { signal: 9, all: true, stop: true }).catch(() => {}),
    end.then(
      () => monitor.remove(id),
      () => {},
    ),
  ]
  await within(MONITOR_ANSWER_MS, Promise.all(asked)).catch(() => {})
}

/** A file beside a good record that is damaged is put aside, and told; the container is taken up without it. */
function undamaged<T>(node: Node, path: string, read: () => T | undefined): T | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    tellDamage(node, `a file of a container was put aside in ${node.at.quarantine}`, error)
    setAside(node, path, path.split('/').slice(-2).join('-'))
    return
  }
}

function ignoreDamage<T>(read: () => T | undefined): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return
    throw error
  }
}

function tellDamage(node: Node, sentence: string, error: unknown): void {
  const whole = `${sentence}: ${describe(error)}`
  node.damage.push(whole)
  node.warn(whole)
}

/** What cannot be read is put aside for a person, and told in Status; what still runs of it is ended, for nobody could stop it any more. */
async function quarantinePod(
  node: Node,
  name: string,
  path: string,
  error: unknown,
): Promise<void> {
  tellDamage(
    node,
    `pod ${name.slice(0, 64)} could not be taken over and is in ${node.at.quarantine}`,
    error,
  )
  if (isId(name)) {
    for (const id of node.pods.get(name)?.containers.keys() ?? []) node.containers.delete(id)
    node.pods.delete(name)
    await endAbandoned(node, name)
  }
  setAside(node, path, name)
}

async function quarantineContainer(
  node: Node,
  pod: Pod,
  id: string,
  path: string,
  error: unknown,
): Promise<void> {
  const name = `${pod.id.slice(0, 12)}-${id.slice(0, 64)}`
  tellDamage(
    node,
    `container ${name} could not be taken over and is in ${node.at.quarantine}`,
    error,
  )
  pod.containers.delete(id)
  node.containers.delete(id)
  try {
    await forget(pod, id)
    await destroyCgroup(cgroupOf(containersParent(pod.record), id))
  } catch (failure) {
    node.warn(`cannot end what is left of container ${id}: ${describe(failure)}`)
  }
  setAside(node, path, name)
}

function setAside(node: Node, path: string, name: string): void {
  const { quarantine } = node.at
  try {
    mkdirSync(quarantine, { recursive: true, mode: 0o700 })
    renameSync(path, join(quarantine, `${name}-${Date.now()}`))
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) node.warn(`cannot put ${path} aside: ${describe(error)}`)
  }
}
