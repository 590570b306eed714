import { mustRun } from './exec.ts'
import { unlessHung } from './hung.ts'
import type { Node } from './node.ts'

/** After the kubelet has renamed the log: what is written from now on goes to a new file of the old name. */
export async function reopenLog(node: Node, id: string): Promise<void> {
  const container = node.mustContainer(id)
  // One that has ended writes no more, and must not be given a new file.
  mustRun(container)
  const { pod } = container
  if (pod.monitor) await unlessHung(node.at.monitor(pod.id), pod.monitor.reopenLog(container.id))
}
