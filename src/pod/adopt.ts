import { nowNs } from '../base/clock.ts'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny, writeFileAtomic } from '../base/file.ts'
import { destroyCgroup } from '../container/index.ts'
import type { ContainerExit } from '../container/monitor.ts'
import type { Container, Pod } from './model.ts'
import type { Node } from './node.ts'
import { exitedStatus, lostExit } from './status.ts'

/** Takes a pod into the node's index and watches over its monitor. */
export function adopt(node: Node, pod: Pod): void {
  node.pods.set(pod.id, pod)
  const { monitor } = pod
  if (!monitor) return
  void monitor.lost.then(() => {
    if (pod.monitor === monitor) return monitorLost(node, pod)
    return
  })
}

/** Is told of a running container's end by its monitor. */
export function watch(node: Node, container: Container): void {
  const { monitor } = container.pod
  monitor?.wait(container.id).then(
    (exit) => containerEnded(node, container, exit),
    // The monitor is lost: adopt() sees to that.
    () => {},
  )
}

/** The exit record is on the disk by now: the monitor writes it first. */
export function containerEnded(node: Node, container: Container, exit: ContainerExit): void {
  if (container.status.state === 'exited') return
  container.end(exitedStatus(exit))
  node.emit('stopped', container.pod, container.id)
}

/** The monitor was killed, and with it everything that knew of the pod's processes: what is left of them goes, and is said to be lost. */
async function monitorLost(node: Node, pod: Pod): Promise<void> {
  pod.monitor = undefined
  pod.held = {}
  node.warn(`the monitor of pod ${pod.id} is gone: its containers are ended`)
  for (const container of pod.containers.values()) await endLost(node, container)
  node.emit('stopped', pod, pod.id)
}

/** Ends a container whose monitor is gone, and writes the exit record that the monitor could not write. */
export async function endLost(node: Node, container: Container): Promise<void> {
  const { pod, id } = container
  const mark = readRunMark(node, container)
  if (!mark) return
  try {
    if (mark.cgroup !== '') await destroyCgroup(mark.cgroup)
  } catch (error) {
    node.warn(`cannot end what is left of container ${id}: ${describe(error)}`)
  }
  if (container.status.state === 'exited') return
  const path = node.at.exit(pod.id, id)
  const known = readExit(path)
  const exit = known ?? lostExit(container, mark)
  if (!known) {
    try {
      writeFileAtomic(path, JSON.stringify(exit))
    } catch (error) {
      if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'ENOENT')) throw error
      node.warn(`cannot write the exit record of container ${id}: ${describe(error)}`)
    }
  }
  container.end(exitedStatus(exit))
  node.emit('stopped', pod, id)
}

/** Undefined where there is none; a damaged one is as good as none. */
export function readExit(path: string): ContainerExit | undefined {
  try {
    return readJsonIfAny(path) as ContainerExit | undefined
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return undefined
    throw error
  }
}

/** That a container was started, in which boot and into which cgroup. */
export interface RunMark {
  readonly bootId: string
  readonly cgroup: string
  readonly startNs: string
}

export function readRunMark(node: Node, container: Container): RunMark | undefined {
  try {
    return readJsonIfAny(node.at.run(container.pod.id, container.id)) as RunMark | undefined
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    return { bootId: '', cgroup: '', startNs: String(nowNs()) }
  }
}
