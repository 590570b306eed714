import { describe, Fault } from '../base/fault.ts'
import { killGroup } from '../cgroup/index.ts'
import { connectMonitor, type Monitor, thawCgroup } from '../container/index.ts'
import { takeBack } from './ahead.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { within } from './wait.ts'

const SIGKILL = 9
/** After SIGKILL: a process that a device or a dead file server holds is not gone by then, and the caller asks again. */
const KILLED_MS = 60_000
/** A container that is made for longer is killed, when it is to stop. */
const START_MS = 2000
/** Until the end of a monitor has made its containers ended. */
const LOST_MS = 2000

/** Frozen with a group above it, it takes no stop signal however long one waits. */
const THAW_MS = 1000

/** Stop signal, `timeoutS`, SIGKILL. Unknown and ended are success. A call with a shorter time shortens one that is waiting. */
export async function stopContainer(node: Node, id: string, timeoutS: number): Promise<void> {
  const container = node.container(id)
  if (container) await stop(node, container, timeoutS)
}

export const stopContainerNow = (node: Node, container: Container): Promise<void> =>
  stop(node, container, 0)

async function stop(node: Node, container: Container, timeoutS: number): Promise<void> {
  await startIsOver(node, container)
  if (container.status.state !== 'running') return
  const asked = container.stopping
  container.stopping = true
  const ended = container.ended()
  if (timeoutS > 0 && !asked) await askToStop(node, container)
  if (timeoutS > 0 && (await within(ended, timeoutS * 1000))) return
  await signal(node, container, SIGKILL, true)
  if (await within(ended, KILLED_MS)) return
  throw hangs(container)
}

async function askToStop(node: Node, container: Container): Promise<void> {
  try {
    // Frozen by somebody: a frozen process takes no signal but SIGKILL.
    await thaw(container)
    await signal(node, container, container.record.stopSignal, false)
  } catch (error) {
    // The next call is to ask, and not only to wait for its time.
    container.stopping = false
    throw error
  }
}

/** A start that is under way is over first, or is ended, and what was made ahead of one is taken back; a stop itself takes no turn, for another one may be in a hurry. */
async function startIsOver(node: Node, container: Container): Promise<void> {
  const turn = node.turns.take(container.id, () => takeBack(node, container))
  const until = performance.now() + KILLED_MS
  while (!(await within(turn, START_MS))) {
    if (container.status.state !== 'created') continue
    if (performance.now() > until) throw hangs(container)
    // It hangs in a mount, or only takes its time: either way nobody wants it any more.
    await signal(node, container, SIGKILL, true)
  }
}

function hangs({ id }: Container): Fault {
  return new Fault(
    'DEADLINE_EXCEEDED',
    `container ${id.slice(0, 12)} was killed and does not end: a process of it hangs in the kernel`,
  )
}

async function thaw({ cgroup }: Container): Promise<void> {
  try {
    if (cgroup !== '') await thawCgroup(cgroup, THAW_MS)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    // It has just ended, or is frozen with its pod.
  }
}

async function signal(
  node: Node,
  container: Container,
  number: number,
  all: boolean,
): Promise<void> {
  const { pod, id, cgroup } = container
  try {
    const known = pod.monitor
    if (!known) throw new Fault('UNAVAILABLE', 'its monitor was given up, or has just died')
    const directory = node.at.monitor(pod.id)
    const send = (monitor: Monitor): Promise<void> =>
      unlessHung(directory, monitor.signal(id, { signal: number, all, stop: true }))
    if (known.isIdle) {
      try {
        return await send(known)
      } catch (error) {
        if (!known.isLost) throw error
      }
    }
    // A connection of its own: on the pod's it would wait for whatever is being made there.
    using monitor = await connectMonitor(directory)
    await send(monitor)
  } catch (error) {
    // It ended by itself at this very moment, or its monitor is lost, which ends it too.
    if (!(error instanceof Fault)) throw error
    if (['FAILED_PRECONDITION', 'NOT_FOUND'].includes(error.code)) return
    if (error.code !== 'UNAVAILABLE') throw error
    // Or the monitor hangs: what it would have done to the group needs no monitor, but how the container ended only the monitor can tell.
    if (all && cgroup !== '') killGroup(cgroup)
    if (await within(container.ended(), LOST_MS)) return
    throw new Fault('UNAVAILABLE', `cannot stop container ${id.slice(0, 12)}: ${describe(error)}`)
  }
}
