import { nowNs } from '../base/clock.ts'
import { type CgroupStats, groupStats } from '../cgroup/index.ts'
import { groupPids, residentBytes } from '../engine/processes.ts'

/** Two samples nearer to each other say little about a rate. */
const RATE_AGE_NS = 1_000_000_000n

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

/** What the looks at a cgroup before have given, by its directory. */
export type Rates = Map<string, Rate>

/** What a cgroup uses now. */
export function sample(rates: Rates, cgroup: string): Sample {
  const timeNs = nowNs()
  const stats = groupStats(cgroup)
  const needsPids = stats.memory === undefined || stats.pids === undefined
  const pids = needsPids ? groupPids(cgroup) : []
  return {
    timeNs,
    stats,
    nanoCores: rate(rates, cgroup, timeNs, stats.cpu?.usageUs),
    residentBytes: stats.memory === undefined ? residentBytes(pids) : undefined,
    processes: stats.pids?.current ?? BigInt(pids.length),
  }
}

function rate(
  rates: Rates,
  cgroup: string,
  timeNs: bigint,
  usageUs: bigint | undefined,
): bigint | undefined {
  if (usageUs === undefined) return
  const before = rates.get(cgroup)
  if (!before || usageUs < before.usageUs) {
    rates.set(cgroup, { timeNs, usageUs, nanoCores: undefined })
    return
  }
  const elapsed = timeNs - before.timeNs
  if (elapsed < RATE_AGE_NS) return before.nanoCores
  const nanoCores = ((usageUs - before.usageUs) * 1_000_000_000_000n) / elapsed
  rates.set(cgroup, { timeNs, usageUs, nanoCores })
  return nanoCores
}
