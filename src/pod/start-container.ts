import { mkdirSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { createProcess, type Monitor } from '../container/index.ts'
import type { ContainerExit } from '../container/monitor.ts'
import { bootId } from '../engine/status.ts'
import { renewWork } from '../engine/trees.ts'
import type { Spec } from '../spec/runtime.ts'
import { lookForPids, watch } from './adopt.ts'
import { containersParent, holdPodScope } from './cgroup.ts'
import { mustBeReady } from './create-container.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { withPlaces } from './places.ts'
import { type RunMark, readExit, readSpec } from './records.ts'
import { ociResources } from './resources.ts'
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

/** The path for the monitor, which follows no link below the pod's log directory: a volume may give containers the host's directory of logs to write to. */
function openedBelow(directory: string, path: string): string {
  if (path === '') return ''
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  return `${join(directory)}/./${relative(directory, path)}`
}

async function startInTurn(node: Node, container: Container): Promise<void> {
  const { pod, record } = container
  const { id } = container
  const { monitor } = pod
  if (!monitor) throw new Fault('FAILED_PRECONDITION', `pod ${pod.id.slice(0, 12)} is not ready`)
  const { at } = node
  const spec = specOf(node, container)
  // As changed by UpdateContainerResources since the creation.
  if (spec.linux) {
    spec.linux.resources = {
      ...ociResources('linux.resources', record.resources, cgroupHost().controllers),
      ...(spec.linux.resources?.devices ? { devices: spec.linux.resources.devices } : {}),
    }
  }
  await mustHaveTarget(monitor, container, spec)
  await renewWork(at.work(pod.id, id))
  await holdPodScope(node, pod)
  const creating = createProcess({
    monitor,
    id,
    spec,
    root: {
      kind: 'overlay',
      lower: withPlaces(
        at,
        record.lower.map((path) => join(at.root, path)),
        spec,
      ),
      upper: at.upper(pod.id, id),
      work: at.work(pod.id, id),
      // At its unmount an overlay else writes the whole file system below it to the disk: not for files that go with the container.
      options: ['volatile'],
    },
    planPath: at.plan(pod.id, id),
    programs: at.programs,
    sharedMemory: sharedMemoryOf(node, container),
    cgroupParent: containersParent(pod.record),
    missingControllers: node.settings.missingControllers,
    io: {
      stdin: record.config.stdin,
      stdinOnce: record.config.stdinOnce,
      log: record.logPath === '' ? 'none' : 'cri',
      logPath: openedBelow(pod.record.config.logDirectory, record.logPath),
    },
    exit: { recordPath: at.exit(pod.id, id), command: [] },
    restart: { policy: 'no', maximumRetries: 0 },
    reaper: false,
    start: true,
    warn: (text) => node.warn(`container ${id.slice(0, 12)}: ${text}`),
    warnOfHost: node.warnOnce,
    beforeCreate: (cgroup) => {
      const mark: RunMark = { bootId: bootId(), cgroup, startNs: String(nowNs()) }
      writeFileAtomic(at.run(pod.id, id), JSON.stringify(mark), { prepared: true })
      container.cgroup = cgroup
    },
  })
  const made = await unlessHung(at.monitor(pod.id), creating).catch((error) => {
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
  // Asked before the start is answered: the monitor answers in order.
  const said = monitor.status()
  said.catch(() => {})
  try {
    await unlessHung(at.monitor(pod.id), made.started)
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
  watch(node, container)
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

/** The mount namespace whose /dev/shm it sees; undefined for one of its own, and where a mount of the configuration brings the host's. */
function sharedMemoryOf(node: Node, { pod, record }: Container): string | undefined {
  if (record.sharedMemory === 'pod') return pod.held.sharedMemory
  if (record.sharedMemory !== 'target') return
  const target = record.config.linux?.securityContext?.namespaceOptions?.targetId ?? ''
  return `/proc/${node.mustContainer(target).status.pid}/ns/mnt`
}

/** Its OCI configuration, as it was made at the creation. */
export function specOf(node: Node, container: Container): Spec {
  const { pod, id } = container
  container.spec ??= readSpec(node, pod.id, id)
  if (!container.spec)
    throw new Fault(
      'DATA_LOSS',
      `the configuration of container ${id} is missing: it can only be stopped and removed`,
    )
  return container.spec
}

/** It has exited without having run; by the monitor's record, where that has one. */
function failStart(node: Node, container: Container, error: unknown): void {
  if (container.status.state !== 'created') return
  const { pod, id } = container
  const path = node.at.exit(pod.id, id)
  const known = readExit(path)
  const exit = known ?? failedExit(container, error)
  try {
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
