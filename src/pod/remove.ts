import { rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { destroyCgroup } from '../container/index.ts'
import { removeTree } from '../engine/trees.ts'
import { readRunMark } from './adopt.ts'
import { podCgroup } from './cgroup.ts'
import type { Container, Pod } from './model.ts'
import type { Node } from './node.ts'
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
    try {
      await pod.monitor?.remove(id)
    } catch (error) {
      // It was never started, or its monitor is lost.
      if (!(error instanceof Fault)) throw error
    }
    // First, so that what is left of a removal that was killed is no container any more.
    rmSync(node.at.record(pod.id, id), { force: true })
    if (cgroup) await destroyCgroup(cgroup)
    rmSync(node.at.plan(pod.id, id), { force: true })
    await removeTree(node.at.container(pod.id, id))
    pod.containers.delete(id)
    node.containers.delete(id)
    node.rates.delete(cgroup ?? '')
    node.emit('deleted', pod, id)
  })
}

/** Removes a pod with its containers, stopped first where it is not. Unknown is success. */
export async function removePod(node: Node, id: string): Promise<void> {
  const pod = node.pod(id)
  if (!pod) return
  await node.turns.take(pod.id, async () => {
    if (!node.pods.has(pod.id)) return
    await stopPodInTurn(node, pod)
    for (const container of [...pod.containers.values()]) await removeKnown(node, container)
    rmSync(node.at.podRecord(pod.id), { force: true })
    rmSync(node.at.monitor(pod.id), { recursive: true, force: true })
    await removeTree(node.at.pod(pod.id))
    removeParent(pod)
    node.pods.delete(pod.id)
    node.rates.delete(podCgroup(pod) ?? '')
    node.emit('deleted', pod, pod.id)
  })
}

function removeParent({ record }: Pod): void {
  if (!record.ownsParent) return
  try {
    rmdirSync(join(cgroupHost().root, record.cgroupParent))
  } catch (error) {
    // Others are in it, or it has gone with the kubelet's own cleaning.
    if (!isErrno(error, 'ENOENT', 'EBUSY', 'ENOTEMPTY')) throw error
  }
}
