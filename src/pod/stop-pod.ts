import { linkSync } from 'node:fs'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { type Stage, untold } from '../base/stage.ts'
import { within } from '../base/within.ts'
import { isMonitorAlive, type Monitor } from '../container/monitor.ts'
import { losePod } from './adopt.ts'
import { askMonitor, killMonitor, MONITOR_ANSWER_MS, reachMonitor } from './hung.ts'
import type { Pod } from './model.ts'
import type { Node } from './node.ts'
import { stopContainerNow } from './stop-container.ts'
import { eventuallyGone, within as settles } from './wait.ts'

/** Time that a monitor gets to end after its last process. */
const MONITOR_END_MS = 10_000

/** Kills what runs in a pod, gives its network back and ends its monitor. Unknown and already stopped are success. */
export async function stopPod(node: Node, id: string, stage = untold): Promise<void> {
  const pod = node.pod(id)
  if (!pod) return
  await node.turns.take(pod.id, () => stopPodInTurn(node, pod, stage))
}

/** The same for a caller whose turn it is. */
export async function stopPodInTurn(node: Node, pod: Pod, stage: Stage): Promise<void> {
  markStopped(node, pod)
  stage('containers')
  await stopContainers(node, pod)
  await node.networks.detach(pod.id, { netns: pod.held.network ?? '', stage })
  pod.addresses = []
  // One whose end has failed before is known by its lock alone.
  if (pod.monitor || isMonitorAlive(node.at.monitor(pod.id))) {
    stage('monitor')
    await endPodMonitor(node, pod)
    node.emit('stopped', pod, pod.id)
  }
  pod.isDown = true
}

async function stopContainers(node: Node, pod: Pod): Promise<void> {
  // Of one that is just being created there is a process already, for which the monitor would stay.
  const making = [...node.ahead.values()].filter((each) => each.pod === pod)
  const all = new Set([...pod.containers.values(), ...making])
  const stops = [...all].map((each) => stopContainerNow(node, each))
  const failed = (await Promise.allSettled(stops)).find(({ status }) => status === 'rejected')
  if (!failed) return
  const { monitor } = pod
  const { reason } = failed as PromiseRejectedResult
  if (monitor && (await askMonitor(monitor))) throw reason
  // It hangs, or a stop before this one has given it up. The whole pod is to end, so it can go: how its containers ended is then not known.
  await endPodMonitor(node, pod)
  await losePod(node, pod)
}

/** From here on it is not ready, also for a daemon that is started in the middle of the stop: that one finishes it. */
function markStopped(node: Node, pod: Pod): void {
  pod.stopped = true
  try {
    // A second name costs the disk less than a second file.
    linkSync(node.at.podRecord(pod.id), node.at.stopped(pod.id))
  } catch (error) {
    // A full disk must not keep a pod from stopping; then it is this daemon's memory alone that knows.
    if (!isErrno(error, 'EEXIST', 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOENT')) throw error
  }
}

/** Ends the pod's monitor, which holds its namespaces; nothing runs under it any more. One that hangs is killed. */
export async function endPodMonitor(node: Node, pod: Pod): Promise<void> {
  const known = pod.monitor
  pod.monitor = undefined
  pod.held = {}
  await endMonitor(node, pod.id, known)
}

export async function endMonitor(
  node: Node,
  id: string,
  known: Monitor | undefined,
): Promise<void> {
  const directory = node.at.monitor(id)
  using monitor = known
  // One whose connection is there lives, or tells at once that it does not.
  if ((!monitor || monitor.isLost) && !isMonitorAlive(directory)) return
  // A monitor that closed our connection answers a new one, unless it hangs with too many callers waiting.
  let answer: Answer = monitor ? await quit(node, id, monitor) : 'unheard'
  if (answer === 'unheard') {
    using other = await reachMonitor(directory)
    if (other) answer = await quit(node, id, other)
    if (other && answer === 'unheard' && isMonitorAlive(directory))
      killMonitor(directory, id, node.engine.warn)
  }
  // It ends when it has written what it owes, or when the pod's removal has taken the place for it: a full disk must not keep a pod from stopping.
  if (answer === 'owes') return
  await eventuallyGone(
    () => !isMonitorAlive(directory),
    MONITOR_END_MS,
    `the monitor of pod ${id} does not end`,
  )
}

/** What a monitor makes of the request to end: it ends (or is killed), owes an exit record that a full disk does not take, or has not heard. */
type Answer = 'ends' | 'owes' | 'unheard'

async function quit(node: Node, id: string, monitor: Monitor): Promise<Answer> {
  try {
    await within(MONITOR_ANSWER_MS, monitor.quit())
    // The kernel closes its connection at its end, at the latest.
    await settles(monitor.lost, MONITOR_END_MS)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    if (error.code === 'UNAVAILABLE') return 'unheard'
    if (error.code === 'DEADLINE_EXCEEDED') killMonitor(node.at.monitor(id), id, node.engine.warn)
    else {
      node.warn(`pod ${id}: ${describe(error)}`)
      if (error.code === 'FAILED_PRECONDITION') return 'owes'
    }
  }
  return 'ends'
}
