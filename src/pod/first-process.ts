import { mkdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Fault } from '../base/fault.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { type Created, createProcess, type Monitor } from '../container/index.ts'
import type { ContainerExit } from '../container/monitor.ts'
import { renewWork } from '../engine/trees.ts'
import type { Spec } from '../spec/runtime.ts'
import { containersParent, holdPodScope } from './cgroup.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { withPlaces } from './places.ts'
import { readSpec } from './records.ts'
import { ociResources } from './resources.ts'

/** A container's first process, which waits before its program. */
export interface MadeProcess extends Created {
  readonly undo: () => Promise<void>
  /** Where the monitor has been asked for its end already. */
  readonly ended?: Promise<ContainerExit> | undefined
}

/** Has the pod's monitor make a container's first process; with `start` it runs its program at once. */
export async function makeFirstProcess(
  node: Node,
  container: Container,
  options: {
    readonly monitor: Monitor
    readonly start: boolean
    readonly beforeCreate: (cgroup: string) => void
    readonly afterAsked?: () => void
  },
): Promise<MadeProcess> {
  const { pod, record, id } = container
  const { at } = node
  const spec = specOf(node, container)
  // As changed by UpdateContainerResources since the creation.
  if (spec.linux) {
    spec.linux.resources = {
      ...ociResources('linux.resources', record.resources, cgroupHost().controllers),
      ...(spec.linux.resources?.devices ? { devices: spec.linux.resources.devices } : {}),
    }
  }
  await renewWork(at.work(pod.id, id))
  await holdPodScope(node, pod)
  return createProcess({
    ...options,
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
    warn: (text) => node.warn(`container ${id.slice(0, 12)}: ${text}`),
    warnOfHost: node.warnOnce,
  })
}

/** The path for the monitor, which follows no link below the pod's log directory: a volume may give containers the host's directory of logs to write to. */
function openedBelow(directory: string, path: string): string {
  if (path === '') return ''
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  return `${join(directory)}/./${relative(directory, path)}`
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
