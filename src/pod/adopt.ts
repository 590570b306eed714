import { setTimeout as delay } from 'node:timers/promises'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { destroyCgroup } from '../container/index.ts'
import {
  type ContainerExit,
  connectMonitor,
  isMonitorAlive,
  type Monitor,
} from '../container/monitor.ts'
import { takeBackOrTell } from './ahead.ts'
import { containersParent } from './cgroup.ts'
import { askMonitor } from './hung.ts'
import type { Container, Pod } from './model.ts'
import type { Node } from './node.ts'
import { cgroupOf, readExit, readRunMark } from './records.ts'
import { exitedStatus, lostExit } from './status.ts'

/** Between two looks at a monitor that has closed its connection: it ends, or it can be asked again. */
const LOOK_MS_MAX = 1000
const SIGKILL = 9
/** The first process of a PID namespace is gone only after all that it has taken along. */
const FIRST_PROCESS_MS = 1000
const FIRST_PROCESS_LOOK_MS = 50

/** Takes a pod into the node's index and watches over its monitor. */
export function adopt(node: Node, pod: Pod): void {
  node.pods.set(pod.id, pod)
  if (pod.monitor) guard(node, pod, pod.monitor)
}

function guard(node: Node, pod: Pod, monitor: Monitor): void {
  void monitor.lost
    .then(() => connectionLost(node, pod, monitor))
    .catch((error) => {
      node.warn(`pod ${pod.id}: ${describe(error)}`)
    })
}

/** Is told of a running container's end by its monitor, which has been asked for it already where there is `asked`. */
export function watch(node: Node, container: Container, asked?: Promise<ContainerExit>): void {
  const ended = asked ?? container.pod.monitor?.wait(container.id)
  ended
    ?.then(
      (exit) => containerEnded(node, container, exit),
      async (error) => {
        // Of a monitor that is lost adopt() knows; one that was asked while it hung may not have heard of the container.
        if (error instanceof Fault && error.code === 'NOT_FOUND') await endLost(node, container)
        else if (!(error instanceof Fault) || error.code !== 'UNAVAILABLE') throw error
      },
    )
    .catch((error) => node.warn(`container ${container.id}: ${describe(error)}`))
}

/** The exit record is on the disk by now: the monitor writes it first. */
export function containerEnded(node: Node, container: Container, exit: ContainerExit): void {
  if (container.status.state === 'exited') return
  const ofMemory = container.outOfMemory && exit.signal === SIGKILL
  const told = ofMemory ? { ...exit, oomKilled: true } : exit
  if (ofMemory) writeExit(node, container, told)
  container.end(exitedStatus(told))
  node.emit('stopped', container.pod, container.id)
  if (exit.signal === SIGKILL) void lookForPids(node, container.pod, FIRST_PROCESS_MS)
}

/**
 * Whether the first process of the PID namespace that a pod's containers share still lives. Any of them that is root may end it. Then the pod is not ready, by which
 * the kubelet knows that it needs another; its network and its monitor go with its stop.
 */
export async function lookForPids(node: Node, pod: Pod, withinMs: number): Promise<void> {
  const until = performance.now() + withinMs
  for (;;) {
    const { monitor } = pod
    if (!monitor || pod.held.pid === undefined) return
    const status = await askMonitor(monitor)
    if (!status || pod.monitor !== monitor) return
    if (status.namespaces.pid === undefined) {
      pod.held = status.namespaces
      node.warn(`pod ${pod.id}: the first process of its PID namespace has ended, and all others`)
      node.emit('stopped', pod, pod.id)
      return
    }
    if (performance.now() >= until) return
    await delay(FIRST_PROCESS_LOOK_MS)
  }
}

/** The monitor has ended, or only its connection: it closes that of a client which reads nothing, such as a daemon that was frozen itself. */
async function connectionLost(node: Node, pod: Pod, lost: Monitor): Promise<void> {
  const directory = node.at.monitor(pod.id)
  for (let ms = 1; pod.monitor === lost; ms = Math.min(ms * 2, LOOK_MS_MAX)) {
    // It closes its files one after the other: dead is who has let go of the lock.
    if (!isMonitorAlive(directory)) return losePod(node, pod)
    const monitor = await connectMonitor(directory).catch(() => undefined)
    if (monitor && (await askMonitor(monitor)) && pod.monitor === lost) {
      pod.monitor = monitor
      guard(node, pod, monitor)
      for (const container of pod.containers.values())
        if (container.status.state === 'running') watch(node, container)
      return
    }
    monitor?.close()
    await delay(ms)
  }
}

/** The monitor was killed, and with it everything that knew of the pod's processes: what is left of them goes, and is said to be lost. */
export async function losePod(node: Node, pod: Pod): Promise<void> {
  pod.monitor = undefined
  pod.held = {}
  node.warn(`the monitor of pod ${pod.id} is gone: its containers are ended`)
  await endRemains(node, pod)
  node.emit('stopped', pod, pod.id)
}

/** Ends what a monitor that is gone has left: containers, and the group of the pod's own first process. */
export async function endRemains(node: Node, pod: Pod): Promise<void> {
  for (const container of pod.containers.values()) await endLost(node, container)
  await destroyOrTell(node, cgroupOf(containersParent(pod.record), pod.id), `pod ${pod.id}`)
}

/** Ends a container whose monitor is gone, and writes the exit record that the monitor could not write. */
export async function endLost(node: Node, container: Container): Promise<void> {
  const { pod, id, status } = container
  // It was never started, and is created as before.
  if (container.ahead) return takeBackOrTell(node, container)
  const mark = readRunMark(node, container)
  if (!mark && status.state !== 'running') return
  const cgroup = mark?.cgroup ?? cgroupOf(containersParent(pod.record), id)
  await destroyOrTell(node, cgroup, `container ${id}`)
  if (container.status.state === 'exited') return
  const path = node.at.exit(pod.id, id)
  const known = readExit(path)
  const exit =
    known ?? lostExit(container, mark ?? { bootId: '', cgroup, startNs: status.startedNs })
  if (!known) writeExit(node, container, exit)
  container.end(exitedStatus(exit))
  node.emit('stopped', pod, id)
}

/** With a full disk a container has ended all the same. */
export function writeExit(node: Node, { pod, id }: Container, exit: ContainerExit): void {
  try {
    writeFileAtomic(node.at.exit(pod.id, id), JSON.stringify(exit))
  } catch (error) {
    node.warn(`cannot write the exit record of container ${id}: ${describe(error)}`)
  }
}

async function destroyOrTell(node: Node, cgroup: string, whose: string): Promise<void> {
  try {
    await destroyCgroup(cgroup)
  } catch (error) {
    node.warn(`cannot end what is left of ${whose}: ${describe(error)}`)
  }
}
