import { rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { untold } from '../base/stage.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { destroyCgroup } from '../container/index.ts'
import { removeTree } from '../engine/trees.ts'
import { podCgroup } from './cgroup.ts'
import { unlessHung } from './hung.ts'
import { forgetWritableLayer } from './image-usage.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { type Making, readRunMark } from './records.ts'
import { stopContainerNow } from './stop-container.ts'
import { stopPodInTurn } from './stop-pod.ts'

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
    const forgotten = forget(node, container)
    // First, so that what is left of a removal that was killed is no container any more.
    rmSync(node.at.record(pod.id, id), { force: true })
    await forgotten
    if (cgroup) await destroyCgroup(cgroup)
    rmSync(node.at.plan(pod.id, id), { force: true })
    await removeFiles(node, container)
    pod.containers.delete(id)
    node.containers.delete(id)
    if (cgroup) node.rates.forget(cgroup)
    node.emit('deleted', pod, id)
  })
}

/** Has the pod's monitor forget it. */
async function forget(node: Node, { pod, id }: Container): Promise<void> {
  try {
    if (pod.monitor) await unlessHung(node.at.monitor(pod.id), pod.monitor.remove(id))
  } catch (error) {
    // It was never started, or its monitor is lost.
    if (!(error instanceof Fault)) throw error
  }
}

/** Trees of one pod that are removed at once: more wait, so that a client cannot make them faster than they go. */
const REMOVALS_MAX = 4

/**
 * What a container has left on the disk goes while the next call is at work; the pod's removal waits for it. Without its record it is debris by now: where this
 * fails, the pod's removal tries again, and after a kill the next daemon.
 */
async function removeFiles(node: Node, { pod, id }: Container): Promise<void> {
  while (pod.removals.size >= REMOVALS_MAX) await Promise.race(pod.removals)
  const removal = removeTree(node.at.container(pod.id, id))
    .catch((error) =>
      node.warn(`container ${id}: its files are not removed yet: ${describe(error)}`),
    )
    .finally(() => {
      pod.removals.delete(removal)
      forgetWritableLayer(node.engine, node.at.upper(pod.id, id))
    })
  pod.removals.add(removal)
}

/** Removes a pod with its containers, stopped first where it is not. Unknown is success. */
export async function removePod(node: Node, id: string, stage = untold): Promise<void> {
  const pod = node.pod(id)
  if (!pod) return
  await node.turns.take(pod.id, async () => {
    if (!node.pods.has(pod.id)) return
    await stopPodInTurn(node, pod, stage)
    stage('files')
    for (const container of [...pod.containers.values()]) await removeKnown(node, container)
    await Promise.all(pod.removals)
    // While the record tells of it: after a kill nobody else would know.
    removeParent(pod.record)
    rmSync(node.at.podRecord(pod.id), { force: true })
    rmSync(node.at.monitor(pod.id), { recursive: true, force: true })
    await removeTree(node.at.pod(pod.id))
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
