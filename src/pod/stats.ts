import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { type CgroupStats, cgroupHost, DEFAULT_PARENT, groupStats } from '../cgroup/index.ts'
import { groupPids, residentBytes } from '../engine/processes.ts'
import { treeUsage } from '../layer/store.ts'
import type { Container, Pod } from './model.ts'
import type { Node } from './node.ts'

/** A writable layer is walked at most this often: the kubelet asks every 10 s, and so does everybody who watches. */
const USAGE_AGE_NS = 10_000_000_000n
/** Two samples nearer to each other say little about a rate. */
const RATE_AGE_NS = 1_000_000_000n

export interface LayerUsage {
  readonly timeNs: bigint
  readonly bytes: number
  readonly inodes: number
}

export interface Sample {
  readonly timeNs: bigint
  readonly stats: CgroupStats
  /** CPU time of one second, in ns: since the sample before; undefined in a first one. */
  readonly nanoCores: bigint | undefined
  /** Resident bytes of the processes, where the host has no memory controller. */
  readonly residentBytes: bigint | undefined
  readonly processes: bigint
}

interface Rate {
  timeNs: bigint
  usageUs: bigint
  nanoCores: bigint | undefined
}

/** What is kept between two looks, by cgroup directory and by container; of those that are gone it goes with the next look at all. */
export class StatsMemory {
  readonly rates = new Map<string, Rate>()
  readonly layers = new Map<string, { usage: LayerUsage | undefined; walk: Promise<void> | undefined }>()

  forget(cgroup: string, id: string): void {
    this.rates.delete(cgroup)
    this.layers.delete(id)
  }
}

/** What a cgroup uses now. */
export function sample(memory: StatsMemory, cgroup: string): Sample {
  const timeNs = nowNs()
  const stats = groupStats(cgroup)
  const needsPids = stats.memory === undefined || stats.pids === undefined
  const pids = needsPids ? groupPids(cgroup) : []
  return {
    timeNs,
    stats,
    nanoCores: rate(memory, cgroup, timeNs, stats.cpu?.usageUs),
    residentBytes: stats.memory === undefined ? residentBytes(pids) : undefined,
    processes: stats.pids?.current ?? BigInt(pids.length),
  }
}

function rate(
  memory: StatsMemory,
  cgroup: string,
  timeNs: bigint,
  usageUs: bigint | undefined,
): bigint | undefined {
  if (usageUs === undefined) return
  const before = memory.rates.get(cgroup)
  if (!before || usageUs < before.usageUs) {
    memory.rates.set(cgroup, { timeNs, usageUs, nanoCores: undefined })
    return
  }
  const elapsed = timeNs - before.timeNs
  if (elapsed < RATE_AGE_NS) return before.nanoCores
  const nanoCores = ((usageUs - before.usageUs) * 1_000_000_000_000n) / elapsed
  memory.rates.set(cgroup, { timeNs, usageUs, nanoCores })
  return nanoCores
}

/** What a container's writable layer takes: as it was found at most 10 s ago; the first time it is waited for. */
export async function writableLayer(
  node: Node,
  { id, pod }: Container,
): Promise<LayerUsage | undefined> {
  const { layers } = node.stats
  const entry = layers.get(id) ?? { usage: undefined, walk: undefined }
  layers.set(id, entry)
  const isOld = !entry.usage || nowNs() - entry.usage.timeNs > USAGE_AGE_NS
  if (isOld && !entry.walk) {
    const timeNs = nowNs()
    entry.walk = treeUsage(node.at.upper(pod.id, id))
      .then(
        (usage) => {
          entry.usage = { timeNs, ...usage }
        },
        // It is being removed.
        () => {},
      )
      .finally(() => {
        entry.walk = undefined
      })
  }
  if (!entry.usage) await entry.walk
  return entry.usage
}

/** The pod's own cgroup, where the client gave it one. */
export function podCgroup({ record }: Pod): string | undefined {
  if (record.cgroupParent === DEFAULT_PARENT) return
  return join(cgroupHost().root, record.cgroupParent)
}
