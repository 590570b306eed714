import { limitWrites } from '../cgroup/index.ts'
import { MEMORY_MIN_BYTES } from '../engine/resources.ts'
import { invalid, list, show, text } from '../plan/check.ts'
import type { HugepageLimit, LinuxContainerResources } from '../spec/cri.ts'
import type { Resources } from '../spec/runtime.ts'
import { whole, within } from './check.ts'

/** The kernel's bounds for a scheduler period and a quota, in µs. */
const CPU_PERIOD_MIN_US = 1000
const CPU_PERIOD_MAX_US = 1_000_000
const CPU_QUOTA_MIN_US = 1000
const CPUSET_BYTES_MAX = 4096
const HUGEPAGE_SIZES_MAX = 32
const UNIFIED_MAX = 256
const UNIFIED_BYTES_MAX = 4096

/** What is in force where a client says nothing: no limit. */
export const NO_RESOURCES: LinuxContainerResources = {
  cpuPeriod: '0',
  cpuQuota: '0',
  cpuShares: '0',
  memoryLimitInBytes: '0',
  oomScoreAdj: '0',
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [],
  unified: {},
  memorySwapLimitInBytes: '0',
}

/**
 * A client's resources, each judged by the name of its field: what is kept in a record, given back in ContainerStatus, and turned into writes later. `field` is
 * what they are part of, such as `linux.resources`.
 */
export function checkedResources(
  field: string,
  given: LinuxContainerResources | null,
): LinuxContainerResources {
  if (given === null) return NO_RESOURCES
  const number = (name: string, value: string, minimum: number, maximum?: number): number =>
    whole(`${field}.${name}`, value, minimum, maximum)
  const atLeast = (name: string, value: number, minimum: number, what: string): void => {
    if (value > 0 && value < minimum) {
      throw invalid(`${field}.${name}`, `${value} is below the minimum of ${minimum} ${what}`)
    }
  }
  const period = number('cpu_period', given.cpuPeriod, 0, CPU_PERIOD_MAX_US)
  atLeast('cpu_period', period, CPU_PERIOD_MIN_US, 'µs')
  const quota = number('cpu_quota', given.cpuQuota, -1)
  atLeast('cpu_quota', quota, CPU_QUOTA_MIN_US, 'µs')
  const shares = number('cpu_shares', given.cpuShares, 0)
  const memory = number('memory_limit_in_bytes', given.memoryLimitInBytes, -1)
  atLeast('memory_limit_in_bytes', memory, MEMORY_MIN_BYTES, 'bytes')
  const swap = number('memory_swap_limit_in_bytes', given.memorySwapLimitInBytes, -1)
  const checked: LinuxContainerResources = {
    cpuPeriod: String(period),
    cpuQuota: String(quota),
    cpuShares: String(shares),
    memoryLimitInBytes: String(memory),
    oomScoreAdj: String(number('oom_score_adj', given.oomScoreAdj, -1000, 1000)),
    cpusetCpus: text(`${field}.cpuset_cpus`, given.cpusetCpus, CPUSET_BYTES_MAX),
    cpusetMems: text(`${field}.cpuset_mems`, given.cpusetMems, CPUSET_BYTES_MAX),
    hugepageLimits: hugepages(`${field}.hugepage_limits`, given.hugepageLimits),
    unified: unified(`${field}.unified`, given.unified),
    memorySwapLimitInBytes: String(swap),
  }
  return checked
}

function hugepages(field: string, limits: readonly HugepageLimit[]): HugepageLimit[] {
  const checked = new Map<string, HugepageLimit>()
  for (const [i, { pageSize, limit }] of list(field, limits, HUGEPAGE_SIZES_MAX).entries()) {
    if (!/^[1-9]\d{0,9}[KMG]B$/.test(pageSize)) {
      throw invalid(`${field}[${i}].page_size`, `${show(pageSize)} is no page size such as 2MB`)
    }
    checked.set(pageSize, { pageSize, limit: String(whole(`${field}[${i}].limit`, limit, 0)) })
  }
  return [...checked.values()]
}

function unified(field: string, values: Readonly<Record<string, string>>): Record<string, string> {
  const entries = list(field, Object.entries(values ?? {}), UNIFIED_MAX)
  for (const [name, value] of entries) {
    // The file must be one of the container's own cgroup.
    if (!/^[a-z]\w*(\.[\w-]+)+$/i.test(name)) {
      throw invalid(`${field}[${show(name)}]`, 'it is no file of a cgroup')
    }
    text(`${field}[${show(name)}]`, value, UNIFIED_BYTES_MAX)
  }
  return Object.fromEntries(entries)
}

/**
 * An update over what is in force, both checked. The kubelet may send one dimension only: what is 0 or '' stays as it is. A limit of memory alone leaves as
 * much swap as there was, for the CRI counts memory and swap together. oom_score_adj is of processes, given to them at their start: it stays.
 */
export function mergedResources(
  before: LinuxContainerResources,
  update: LinuxContainerResources,
): LinuxContainerResources {
  const number = (name: NumberName): string => (update[name] === '0' ? before[name] : update[name])
  const sizes = new Map(
    [...before.hugepageLimits, ...update.hugepageLimits].map((limit) => [limit.pageSize, limit]),
  )
  return {
    cpuPeriod: number('cpuPeriod'),
    cpuQuota: number('cpuQuota'),
    cpuShares: number('cpuShares'),
    memoryLimitInBytes: number('memoryLimitInBytes'),
    memorySwapLimitInBytes: mergedSwap(before, update),
    oomScoreAdj: before.oomScoreAdj,
    cpusetCpus: update.cpusetCpus || before.cpusetCpus,
    cpusetMems: update.cpusetMems || before.cpusetMems,
    hugepageLimits: [...sizes.values()],
    unified: { ...before.unified, ...update.unified },
  }
}

type NumberName = 'cpuPeriod' | 'cpuQuota' | 'cpuShares' | 'memoryLimitInBytes'

function mergedSwap(before: LinuxContainerResources, update: LinuxContainerResources): string {
  if (update.memorySwapLimitInBytes !== '0') return update.memorySwapLimitInBytes
  const total = Number(before.memorySwapLimitInBytes)
  const memory = Number(before.memoryLimitInBytes)
  const after = Number(update.memoryLimitInBytes)
  if (total <= 0 || after === 0) return before.memorySwapLimitInBytes
  if (after < 0) return '-1'
  return String(total - memory + after)
}

/**
 * The OCI's section for checked resources; only what was asked for is in it. All that can be refused without a cgroup is refused here, before a container
 * is made. `field` as for `checkedResources`; `controllers` are those of the host's cgroup v2.
 */
export function ociResources(
  field: string,
  checked: LinuxContainerResources,
  controllers: readonly string[],
): Resources {
  const memory = Number(checked.memoryLimitInBytes)
  const swap = Number(checked.memorySwapLimitInBytes)
  if (swap > 0 && (memory <= 0 || swap < memory)) {
    throw invalid(
      `${field}.memory_swap_limit_in_bytes`,
      memory <= 0
        ? 'needs memory_limit_in_bytes: it is memory and swap together'
        : `${swap} is below memory_limit_in_bytes ${memory}: it is memory and swap together`,
    )
  }
  const resources: Resources = {}
  const memorySection = given({ limit: memory, swap })
  const cpuSection = given({
    period: Number(checked.cpuPeriod),
    quota: Number(checked.cpuQuota),
    shares: Number(checked.cpuShares),
    cpus: checked.cpusetCpus,
    mems: checked.cpusetMems,
  })
  if (memorySection) resources.memory = memorySection
  if (cpuSection) resources.cpu = cpuSection
  // The kubelet gives 0 for every size that its machine knows to whoever asks for none: without the controller that is no limit to refuse a pod for.
  const hugepages = checked.hugepageLimits.filter(
    ({ limit }) => limit !== '0' || controllers.includes('hugetlb'),
  )
  if (hugepages.length > 0) {
    resources.hugepageLimits = hugepages.map(({ pageSize, limit }) => ({
      pageSize,
      limit: Number(limit),
    }))
  }
  if (Object.keys(checked.unified).length > 0) resources.unified = { ...checked.unified }
  within(field, () => limitWrites(resources))
  return resources
}

/** Without 0 and '', which say "not asked"; undefined where nothing is left. */
function given<T extends Record<string, number | string>>(section: T): Partial<T> | undefined {
  const entries = Object.entries(section).filter(([, value]) => value !== 0 && value !== '')
  return entries.length > 0 ? (Object.fromEntries(entries) as Partial<T>) : undefined
}
