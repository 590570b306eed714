import type { IdMap, IdMappings, NamespacePlan, NamespaceType } from '../spec/plan.ts'
import { NAMESPACE_FLAGS } from '../spec/plan.ts'
import type { IdMapping, Linux } from '../spec/runtime.ts'
import { absolute, impossible, integer, invalid, list, unfit } from './check.ts'
import type { HostFacts } from './facts.ts'

/** Lines that the kernel takes in uid_map and gid_map (UID_GID_MAP_MAX_EXTENTS). */
const MAP_LINES_MAX = 340

/** The namespaces of a container: what it has of its own, as other parts of the plan ask. */
export class Namespaces {
  readonly plans: readonly NamespacePlan[]
  readonly #shared: ReadonlySet<NamespaceType>

  constructor(plans: readonly NamespacePlan[], shared: ReadonlySet<NamespaceType>) {
    this.plans = plans
    this.#shared = shared
  }

  /** Neither made nor joined: as the caller has it. */
  isInherited(type: NamespaceType): boolean {
    return !this.plans.some((ns) => ns.type === type)
  }

  /** Made for this container. */
  isNew(type: NamespaceType): boolean {
    return this.plans.some((ns) => ns.type === type && ns.path === undefined)
  }

  /** Other than the host's: new, or joined and not the host's. */
  isOwn(type: NamespaceType): boolean {
    return !this.#shared.has(type) && this.plans.some((ns) => ns.type === type)
  }
}

export function planNamespaces(
  linux: Linux,
  facts: Pick<HostFacts, 'namespaces'>,
  shared: ReadonlySet<NamespaceType>,
): Namespaces {
  const plans: NamespacePlan[] = []
  for (const [i, { type, path }] of list('linux.namespaces', linux.namespaces, 64).entries()) {
    const field = `linux.namespaces[${i}]`
    if (!isType(type)) throw unfit(`${field}.type`, type, 'is no type of a namespace')
    if (plans.some((ns) => ns.type === type))
      throw invalid(field, `the type ${type} is given twice`)
    if (!facts.namespaces.has(type)) {
      throw impossible(field, `this kernel has no ${type} namespaces`)
    }
    plans.push(path ? { type, path: absolute(`${field}.path`, path) } : { type })
  }
  return new Namespaces(plans, shared)
}

function isType(type: unknown): type is NamespaceType {
  return typeof type === 'string' && Object.hasOwn(NAMESPACE_FLAGS, type)
}

/** uid_map and gid_map of a new user namespace, or what is said of those of a joined one; undefined without either. */
export function planIdMappings(linux: Linux, namespaces: Namespaces): IdMappings | undefined {
  const uids = idMaps('linux.uidMappings', linux.uidMappings)
  const gids = idMaps('linux.gidMappings', linux.gidMappings)
  const given = uids.length > 0 || gids.length > 0
  if (!namespaces.isNew('user')) {
    const joined = namespaces.plans.some((ns) => ns.type === 'user')
    if (given && !joined) {
      throw invalid('linux.uidMappings', 'are given without a user namespace in linux.namespaces')
    }
    // With a joined one they describe it: owners of devices and of the process's stdio are set from outside.
    return uids.length > 0 && gids.length > 0 ? { uids, gids } : undefined
  }
  for (const [field, maps] of [
    ['linux.uidMappings', uids],
    ['linux.gidMappings', gids],
  ] as const) {
    if (maps.length === 0) throw invalid(field, 'a new user namespace needs at least one mapping')
    // The native side prepares the root as the namespace's root.
    if (outsideOf(maps, 0) === undefined) throw invalid(field, 'container id 0 is not mapped')
  }
  return { uids, gids }
}

/** Checked ranges; neither side may hold an id twice (the kernel answers EINVAL with no word of why). */
export function idMaps(field: string, mappings: readonly IdMapping[] | undefined): IdMap[] {
  const maps: IdMap[] = []
  for (const [i, mapping] of list(field, mappings, MAP_LINES_MAX).entries()) {
    const at = `${field}[${i}]`
    const size = integer(`${at}.size`, mapping.size, 1, 2 ** 32 - 1)
    const inside = integer(`${at}.containerID`, mapping.containerID, 0, 2 ** 32 - 1 - size)
    const outside = integer(`${at}.hostID`, mapping.hostID, 0, 2 ** 32 - 1 - size)
    for (const other of maps) {
      if (
        overlap(inside, size, other.inside, other.size) ||
        overlap(outside, size, other.outside, other.size)
      ) {
        throw invalid(at, 'overlaps an earlier mapping')
      }
    }
    maps.push({ inside, outside, size })
  }
  return maps
}

function overlap(a: number, aSize: number, b: number, bSize: number): boolean {
  return a < b + bSize && b < a + aSize
}

/** The host's id behind a container's; undefined where none is mapped. */
export function outsideOf(maps: readonly IdMap[], inside: number): number | undefined {
  const map = maps.find((m) => inside >= m.inside && inside < m.inside + m.size)
  return map && map.outside + inside - map.inside
}

/** Half of the kernel's KTIME_SEC_MAX: its own bound for an offset (146 years). */
const TIME_OFFSET_MAX = 4_611_686_018

interface TimeOffset {
  readonly seconds: bigint
  readonly nanoseconds: number
}

/** The offsets of a new time namespace's clocks. */
export function planTimeOffsets(
  linux: Linux,
  namespaces: Namespaces,
): { monotonicOffset?: TimeOffset; boottimeOffset?: TimeOffset } {
  const offsets: { monotonicOffset?: TimeOffset; boottimeOffset?: TimeOffset } = {}
  for (const [clock, { secs = 0, nanosecs = 0 }] of Object.entries(linux.timeOffsets ?? {})) {
    const field = `linux.timeOffsets.${clock}`
    if (clock !== 'monotonic' && clock !== 'boottime')
      throw invalid(field, 'there is no such clock')
    if (!namespaces.isNew('time')) throw invalid(field, 'needs a new time namespace')
    offsets[`${clock}Offset`] = {
      seconds: BigInt(integer(`${field}.secs`, secs, -TIME_OFFSET_MAX, TIME_OFFSET_MAX)),
      nanoseconds: integer(`${field}.nanosecs`, nanosecs, 0, 999_999_999),
    }
  }
  return offsets
}
