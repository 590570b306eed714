import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  cgroupHost,
  checkPath,
  DEFAULT_PARENT,
  type DriverName,
  holdScope,
  sliceOf,
} from '../cgroup/index.ts'
import { within } from './check.ts'
import type { Pod } from './model.ts'
import { invalid } from './names.ts'
import type { Node } from './node.ts'
import type { PodRecord } from './types.ts'

/** Where pods go that are given no slice. */
const DEFAULT_SLICE = 'berth.slice'
/** Of the pod's id, in its scope's name: fewer digits than an id has, so that no tool takes the scope for a container. */
const SCOPE_ID_DIGITS = 32

/**
 * Where a pod's groups are, of the path that a client gives. With the driver systemd it is a slice's, and the pod has one scope there in which the groups of all
 * its containers are: systemd is asked once for a pod and for no container. It removes an empty scope at once; so a scope of each container could be
 * gone, with the word of an OOM kill in it, before the monitor has looked.
 */
export function podPlace(
  driver: DriverName,
  given: string,
  id: string,
): Pick<PodRecord, 'cgroupParent' | 'scope' | 'ownsParent'> {
  const field = 'config.linux.cgroup_parent'
  const isSlice = given.endsWith('.slice')
  if (driver === 'systemd') {
    if (given !== '' && !isSlice)
      throw invalid(field, `"${given}" is no slice, and cgroup.driver is "systemd"`)
    const { path } = sliceOf(given || DEFAULT_SLICE)
    const scope = `berth-pod-${id.slice(0, SCOPE_ID_DIGITS)}.scope`
    // Slices are systemd's: it would not know that one is gone.
    return { cgroupParent: path, scope, ownsParent: false }
  }
  if (isSlice)
    throw invalid(field, `"${given}" is a slice of systemd, and cgroup.driver is "cgroupfs"`)
  const parent = within(field, () => checkPath(given || DEFAULT_PARENT))
  const ownsParent = parent !== DEFAULT_PARENT && !existsSync(join(cgroupHost().root, parent))
  return { cgroupParent: parent, ownsParent }
}

/** Within the hierarchy, the group in which those of the pod's containers are. */
export function containersParent(record: Pick<PodRecord, 'cgroupParent' | 'scope'>): string {
  return join(record.cgroupParent, record.scope ?? '')
}

/** The pod's own cgroup, with its limits; undefined where the client gave it none. */
export function podCgroup({ record }: Pod): string | undefined {
  const { cgroupParent } = record
  if (cgroupParent === DEFAULT_PARENT || cgroupParent === `/${DEFAULT_SLICE}`) return
  return join(cgroupHost().root, cgroupParent)
}

/** Sees to it that a pod's scope is there, as long as its monitor lives. */
export async function holdPodScope(node: Node, { record }: Pod): Promise<void> {
  const { id, scope, cgroupParent } = record
  if (scope === undefined) return
  await node.turns.take(`${id} scope`, () =>
    holdScope({
      slice: sliceOf(cgroupParent).slice,
      unit: scope,
      description: describePod(record),
      heldBy: join(node.at.monitor(id), 'alive'),
    }),
  )
}

/** For people, in systemctl. systemd writes it into a unit's file, so it holds nothing but what names of Kubernetes are made of (DNS-1123). */
export function describePod({ id, config }: Pick<PodRecord, 'id' | 'config'>): string {
  const { namespace = '', name = '' } = config.metadata ?? {}
  const full = `${namespace}/${name}`
  return `pod ${/^[a-z\d.-]{1,253}\/[a-z\d.-]{1,253}$/.test(full) ? full : id}`
}
