import { writeFileSync } from 'node:fs'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { connectMonitor, isMonitorAlive } from '../container/monitor.ts'
import type { Pod } from './model.ts'
import type { Node } from './node.ts'
import { stopContainerNow } from './stop-container.ts'
import { eventuallyGone, within } from './wait.ts'

/** Time that a monitor gets to end after its last process. */
const MONITOR_END_MS = 10_000

/** Kills what runs in a pod, gives its network back and ends its monitor. Unknown and already stopped are success. */
export async function stopPod(node: Node, id: string): Promise<void> {
  const pod = node.pod(id)
  if (!pod) return
  await node.turns.take(pod.id, () => stopPodInTurn(node, pod))
}

/** The same for a caller whose turn it is. */
export async function stopPodInTurn(node: Node, pod: Pod): Promise<void> {
  markStopped(node, pod)
  await Promise.all([...pod.containers.values()].map((each) => stopContainerNow(node, each)))
  await node.networks.detach(pod.id, { netnsGone: pod.held.network === undefined })
  pod.addresses = []
  if (!pod.monitor) return
  await endPodMonitor(node, pod)
  node.emit('stopped', pod, pod.id)
}

/** From here on it is not ready, also for a daemon that is started in the middle of the stop: that one finishes it. */
function markStopped(node: Node, pod: Pod): void {
  pod.stopped = true
  try {
    writeFileSync(node.at.stopped(pod.id), '')
  } catch (error) {
    // A full disk must not keep a pod from stopping; then it is this daemon's memory alone that knows.
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOENT')) throw error
  }
}

/** Ends the pod's monitor, which holds its namespaces; nothing runs under it any more. */
export async function endPodMonitor(node: Node, pod: Pod): Promise<void> {
  const directory = node.at.monitor(pod.id)
  const known = pod.monitor
  pod.monitor = undefined
  pod.held = {}
  if (!isMonitorAlive(directory)) {
    known?.close()
    return
  }
  // A monitor that closed our connection answers a new one.
  const monitor = known ?? (await connectMonitor(directory).catch(() => undefined))
  try {
    await monitor?.quit()
    // The kernel closes its connection at its end, at the latest.
    if (monitor) await within(monitor.lost, MONITOR_END_MS)
  } catch (error) {
    // It ends by itself when the last container has.
    if (!(error instanceof Fault)) throw error
    if (error.code !== 'UNAVAILABLE') node.warn(`pod ${pod.id}: ${describe(error)}`)
  } finally {
    monitor?.close()
  }
  await eventuallyGone(
    () => !isMonitorAlive(directory),
    MONITOR_END_MS,
    `the monitor of pod ${pod.id} does not end`,
  )
}
