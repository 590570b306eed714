import { nowNs } from '../base/clock.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { groupPids, residentBytes } from '../engine/processes.ts'
import { forgetGroup, type GroupUsage, readGroups } from '../kernel/group-usage.ts'

/** Two samples nearer to each other say little about a rate. */
const RATE_AGE_NS = 1_000_000_000

export interface Sample {
  readonly timeNs: bigint
  readonly usage: GroupUsage
  /** CPU time of one second, in ns: since the sample before; undefined in a first one. */
  readonly nanoCores: number | undefined
  /** Resident bytes of the processes, where the host has no memory controller. */
  readonly residentBytes: number | undefined
  readonly processes: number
}

interface Rate {
  timeNs: bigint
  usageUs: number
  nanoCores: number | undefined
}

/** What the looks at cgroups before have left, by their directories. */
export class Rates {
  readonly #rates = new Map<string, Rate>()

  /** CPU time of one second, in ns. */
  next(cgroup: string, timeNs: bigint, usageUs: number | undefined): number | undefined {
    if (usageUs === undefined) return
    const before = this.#rates.get(cgroup)
    if (!before || usageUs < before.usageUs) {
      this.#rates.set(cgroup, { timeNs, usageUs, nanoCores: undefined })
      return
    }
    const elapsedNs = Number(timeNs - before.timeNs)
    if (elapsedNs < RATE_AGE_NS) return before.nanoCores
    const nanoCores = Math.floor(((usageUs - before.usageUs) * 1e12) / elapsedNs)
    this.#rates.set(cgroup, { timeNs, usageUs, nanoCores })
    return nanoCores
  }

  /** Of a cgroup that is gone. */
  forget(cgroup: string): void {
    this.#rates.delete(cgroup)
    forgetGroup(cgroup)
  }
}

/** By the directories of cgroups. */
export type Samples = ReadonlyMap<string, Sample>

/** What cgroups use now; all their files are read together. */
export async function sampleAll(rates: Rates, cgroups: readonly string[]): Promise<Samples> {
  if (cgroups.length === 0) return new Map()
  const { controllers } = cgroupHost()
  const lacksPids = !controllers.includes('memory') || !controllers.includes('pids')
  const looks = await readGroups(cgroups, lacksPids)
  const timeNs = nowNs()
  return new Map(
    looks.map((usage, i) => {
      const cgroup = cgroups[i] ?? ''
      return [cgroup, sampleOf(rates, cgroup, timeNs, usage)]
    }),
  )
}

function sampleOf(rates: Rates, cgroup: string, timeNs: bigint, usage: GroupUsage): Sample {
  // With groups below it, which the container has made; without the controllers on a host that has them, it is just going away.
  const asked =
    usage.isNested || (usage.pids === undefined && usage.cpuUs !== undefined)
      ? groupPids(cgroup)
      : undefined
  const resident =
    usage.residentBytes ??
    (asked && usage.memoryBytes === undefined ? Number(residentBytes(asked)) : undefined)
  return {
    timeNs,
    usage,
    nanoCores: rates.next(cgroup, timeNs, usage.cpuUs),
    residentBytes: resident,
    processes: usage.pids ?? asked?.length ?? 0,
  }
}
