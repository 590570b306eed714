import { rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { removeFile, removeShallow } from '../base/file.ts'
import { untold } from '../base/stage.ts'
import { within } from '../base/within.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { destroyCgroup, type Monitor } from '../container/index.ts'
import { removeTree } from '../engine/trees.ts'
import { podCgroup } from './cgroup.ts'
import { MONITOR_ANSWER_MS, unlessHung } from './hung.ts'
import { forgetWritableLayer } from './image-usage.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { type Making, readRunMark } from './records.ts'
import { stopContainerNow } from './stop-container.ts'
import { stopPodInTurn } from './stop-pod.ts'
import { discard } from './trash.ts'

/** Removes a container, killed first where it runs; its log stays. Unknown is success. */
export async function removeContainer(node: Node, id: string): Promise<void> {
  const container = node.container(id)
  if (container) await removeKnown(node, container)
}

async function removeKnown(node: Node, container: Container): Promise<void> {
  const { pod, id } = container
  container.removing = true
  await stopContainerNow(node, container)
  await node.turns.take(id, async () => {
    // A call that came at the same time was faster.
    if (!node.containers.has(id)) return
    const cgroup = readRunMark(node, container)?.cgroup
    // Its monitor is at work meanwhile.
    const forgotten = forget(node, container)
    forgotten.catch(() => {})
    // First, so that what is left of a removal that was killed is no container any more.
    removeFile(node.at.record(pod.id, id))
    if (cgroup) await destroyCgroup(cgroup)
    removeFile(node.at.plan(pod.id, id))
    await removeFiles(node, container)
    await forgotten
    pod.containers.delete(id)
    node.containers.delete(id)
    if (cgroup) node.rates.forget(cgroup)
    node.emit('deleted', pod, id)
  })
}

/** Has the pod's monitor forget it. */
async function forget(node: Node, { pod, id }: Container): Promise<void> {
  const { monitor } = pod
  try {
    if (monitor)
      await unlessHung(
        node.at.monitor(pod.id),
        within(MONITOR_ANSWER_MS, removeStopped(monitor, id)),
      )
  } catch (error) {
    // It was never started, or its monitor is lost.
    if (!(error instanceof Fault)) throw error
  }
}

/** One that is only just ending, or whose group is being emptied, is not stopped yet for its monitor. */
async function removeStopped(monitor: Monitor, id: string): Promise<void> {
  try {
    await monitor.remove(id)
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'FAILED_PRECONDITION') throw error
    await monitor.wait(id)
    await monitor.remove(id)
  }
}

/** What a container has left on the disk goes while the next call is at work: without its record it is debris by now. */
function removeFiles(node: Node, { pod, id }: Container): Promise<void> {
  const forgetLayer = (): void => forgetWritableLayer(node.engine, node.at.upper(pod.id, id))
  return discard(node, node.at.container(pod.id, id), pod.removals, forgetLayer)
}

/** Removes a pod with its containers, stopped first where it is not. Unknown is success. */
export async function removePod(node: Node, id: string, stage = untold): Promise<void> {
  const pod = node.pod(id)
  if (!pod) return
  await node.turns.take(pod.id, async () => {
    if (!node.pods.has(pod.id)) return
    if (!pod.isDown) await stopPodInTurn(node, pod, stage)
    stage('files')
    for (const container of [...pod.containers.values()]) await removeKnown(node, container)
    // While the record tells of it: after a kill nobody else would know.
    removeParent(pod.record)
    removeFile(node.at.podRecord(pod.id))
    const state = node.at.monitor(pod.id)
    if (!removeShallow(state)) rmSync(state, { recursive: true, force: true })
    if (!removeShallow(node.at.pod(pod.id))) {
      // Files of a container could not be taken out of it.
      await Promise.all(pod.removals)
      await removeTree(node.at.pod(pod.id))
    }
    node.pods.delete(pod.id)
    const group = podCgroup(pod)
    if (group !== undefined) node.rates.forget(group)
    node.emit('deleted', pod, pod.id)
  })
}

/** Removes the cgroup parent of a pod that has brought it along. */
export function removeParent({ ownsParent, cgroupParent }: Making): void {
  if (!ownsParent) return
  try {
    rmdirSync(join(cgroupHost().root, cgroupParent))
  } catch (error) {
    // Others are in it, or it has gone with the kubelet's own cleaning.
    if (!isErrno(error, 'ENOENT', 'EBUSY', 'ENOTEMPTY')) throw error
  }
}
