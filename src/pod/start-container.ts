import { existsSync, renameSync, rmSync } from 'node:fs'
import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import type { Monitor } from '../container/index.ts'
import type { ContainerExit } from '../container/monitor.ts'
import { bootId } from '../engine/status.ts'
import type { Spec } from '../spec/runtime.ts'
import { lookForPids, watch } from './adopt.ts'
import { startAhead } from './ahead.ts'
import { mustBeReady } from './create-container.ts'
import { type MadeProcess, makeFirstProcess, specOf } from './first-process.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { type RunMark, readExit } from './records.ts'
import { exitedStatus } from './status.ts'

/** Runs a created container's program. Only once in its life. */
export async function startContainer(node: Node, id: string): Promise<void> {
  using _starting = node.monitors.starting()
  const container = node.mustContainer(id)
  await node.turns.take(container.id, async () => {
    mustBeCreated(container)
    mustBeReady(container.pod)
    try {
      await startInTurn(node, container)
    } catch (error) {
      failStart(node, container, error)
      await lookForPids(node, container.pod, 0)
      throw error
    }
  })
}

function mustBeCreated({ id, status, removing }: Container): void {
  if (status.state === 'created' && !removing) return
  throw new Fault(
    'FAILED_PRECONDITION',
    `cannot start container ${id.slice(0, 12)}: it is ${removing ? 'being removed' : status.state}`,
  )
}

async function startInTurn(node: Node, container: Container): Promise<void> {
  const { pod, id } = container
  const { monitor } = pod
  if (!monitor) throw new Fault('FAILED_PRECONDITION', `pod ${pod.id.slice(0, 12)} is not ready`)
  const spec = specOf(node, container)
  await mustHaveTarget(monitor, container, spec)
  const made =
    (await startAhead(node, container)) ?? (await startNow(node, container, { monitor, spec }))
  // Asked before the start is answered: the monitor answers in order.
  const said = monitor.status()
  said.catch(() => {})
  try {
    await unlessHung(node.at.monitor(pod.id), made.started)
  } catch (error) {
    await made.undo().catch((failure) => node.warn(describe(failure)))
    throw error
  }
  // It runs from here on, whatever else fails.
  container.status = {
    ...container.status,
    state: 'running',
    pid: made.pid,
    startedNs: String(nowNs()),
  }
  const own = (await said.catch(() => undefined))?.containers[id]
  if (own && own.startedNs !== '0' && container.status.state === 'running')
    container.status = { ...container.status, startedNs: own.startedNs }
  node.emit('started', pod, id)
  // Its end is told after its start.
  watch(node, container, made.ended)
}

/** Makes its first process, and has it run its program at once. */
async function startNow(
  node: Node,
  container: Container,
  { monitor, spec }: { readonly monitor: Monitor; readonly spec: Spec },
): Promise<MadeProcess> {
  const { pod, id } = container
  const creating = makeFirstProcess(node, container, {
    monitor,
    start: true,
    beforeCreate: (cgroup) => {
      const mark: RunMark = { bootId: bootId(), cgroup, startNs: String(nowNs()) }
      const path = node.at.ahead(pod.id, id)
      writeFileAtomic(path, JSON.stringify(mark), { prepared: true })
      renameSync(path, node.at.run(pod.id, id))
      container.cgroup = cgroup
    },
  })
  const made = await unlessHung(node.at.monitor(pod.id), creating).catch((error) => {
    // One that is made all the same, when its monitor goes on: nobody waits for it any more.
    creating.then((late) => late.undo()).catch(() => {})
    throw error
  })
  try {
    await mustHaveTarget(monitor, container, spec)
  } catch (error) {
    await made.undo().catch((failure) => node.warn(describe(failure)))
    throw error
  }
  return made
}

/**
 * That the container whose namespaces it joins runs as it did when they were named, by its pid: that may be a process of the host by now. The monitor reaps it, so what it
 * says after the namespaces were joined holds for the time before.
 */
async function mustHaveTarget(
  monitor: Monitor,
  { id, record }: Container,
  spec: Spec,
): Promise<void> {
  const target = record.config.linux?.securityContext?.namespaceOptions?.targetId ?? ''
  const joined = (spec.linux?.namespaces ?? []).flatMap(
    ({ path }) => /^\/proc\/(\d+)\/ns\//.exec(path ?? '')?.[1] ?? [],
  )
  if (joined.length === 0) return
  const { containers } = await monitor.status()
  const own = Object.entries(containers).find(([each]) => each.startsWith(target))?.[1]
  if (own?.state === 'running' && joined.every((pid) => pid === String(own.pid))) return
  throw new Fault(
    'FAILED_PRECONDITION',
    `cannot start container ${id.slice(0, 12)}: its target ${target.slice(0, 12)} has ended since it was made`,
  )
}

/** It has exited without having run; by the monitor's record, where that has one. */
function failStart(node: Node, container: Container, error: unknown): void {
  if (container.status.state !== 'created') return
  const { pod, id } = container
  const path = node.at.exit(pod.id, id)
  const known = readExit(path)
  const exit = known ?? failedExit(container, error)
  try {
    // A monitor that hangs may make its process yet: by the mark of a start, the removal knows where.
    const ahead = node.at.ahead(pod.id, id)
    if (existsSync(ahead)) renameSync(ahead, node.at.run(pod.id, id))
    if (!known) writeFileAtomic(path, JSON.stringify(exit))
    rmSync(node.at.plan(pod.id, id), { force: true })
  } catch (failure) {
    node.warn(`cannot write the exit record of container ${id}: ${describe(failure)}`)
  }
  container.end(exitedStatus(exit))
  node.emit('stopped', pod, id)
}

/** containerd's exit code of a container whose start has failed. */
const START_ERROR = 128

function failedExit({ id, record }: Container, error: unknown): ContainerExit {
  return {
    id,
    code: error instanceof Fault && error.exit !== undefined ? error.exit : START_ERROR,
    signal: 0,
    oomKilled: false,
    createdNs: record.createdNs,
    startedNs: '0',
    finishedNs: String(nowNs()),
    error: describe(error),
    restarts: 0,
  }
}
