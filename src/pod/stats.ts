import { nowNs } from '../base/clock.ts'
import {
  type CgroupStats,
  cgroupHost,
  groupStats,
  statFiles,
  textIfThere,
} from '../cgroup/index.ts'
import { groupPids, residentBytes, statFile } from '../engine/processes.ts'
import { readTexts, readTextsOf, type Texts } from '../kernel/read-files.ts'

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

/** By the directories of cgroups. */
export type Samples = ReadonlyMap<string, Sample>

/** What cgroups use now; all their files are read together. */
export async function sampleAll(rates: Rates, cgroups: readonly string[]): Promise<Samples> {
  if (cgroups.length === 0) return new Map()
  const { controllers } = cgroupHost()
  const names = statFiles(controllers)
  const lacksPids = !controllers.includes('memory') || !controllers.includes('pids')
  if (lacksPids) names.push(...PIDS_FILES)
  const files = await readTextsOf(cgroups, names)
  const timeNs = nowNs()
  const looks = files.map((texts, i) => {
    const cgroup = cgroups[i] ?? ''
    const stats = groupStats(cgroup, texts)
    if (!needsPids(stats)) return { cgroup, stats, pids: [] }
    // On another host it is this group alone that lacks them: it is just going away.
    return { cgroup, stats, pids: lacksPids ? pidsOf(cgroup, texts) : groupPids(cgroup) }
  })
  const pids = looks.flatMap(({ stats, pids }) => (stats.memory === undefined ? pids : []))
  const processes = pids.length === 0 ? undefined : await readTexts(pids.map(statFile))
  return new Map(
    looks.map(({ cgroup, stats, pids }) => {
      const resident = stats.memory === undefined ? residentBytes(pids, processes) : undefined
      return [cgroup, sampleOf(rates, cgroup, { timeNs, stats, pids, resident })]
    }),
  )
}

/** Without these controllers, what they would tell is asked of the processes. */
const needsPids = ({ memory, pids }: CgroupStats): boolean =>
  memory === undefined || pids === undefined

const PIDS_FILES = ['cgroup.procs', 'cgroup.stat']

function pidsOf(cgroup: string, texts: Texts): number[] {
  const stat = textIfThere(texts, 'cgroup.stat') ?? ''
  // With groups below it, which the container has made.
  if (!/^nr_descendants 0$/m.test(stat)) return groupPids(cgroup)
  const lines = textIfThere(texts, 'cgroup.procs')?.split('\n') ?? []
  return lines.filter((line) => line !== '').map(Number)
}

function sampleOf(
  rates: Rates,
  cgroup: string,
  look: {
    readonly timeNs: bigint
    readonly stats: CgroupStats
    readonly pids: readonly number[]
    readonly resident: bigint | undefined
  },
): Sample {
  const { timeNs, stats, pids, resident } = look
  return {
    timeNs,
    stats,
    nanoCores: rate(rates, cgroup, timeNs, stats.cpu?.usageUs),
    residentBytes: resident,
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
