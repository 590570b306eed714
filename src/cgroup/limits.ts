import { Fault } from '../base/fault.ts'
import type { Resources, Throttle } from '../spec/runtime.ts'

/** One write into a cgroup's file, and what it is there for. */
export interface LimitWrite {
  readonly controller: string
  readonly file: string
  readonly value: string
  /** The name in the OCI configuration, for messages. */
  readonly option: string
  /**
   * 'limit': a promise; without its controller the container is refused. 'share': weights and protections only say who goes
   * first under contention; without their controller they are left out with a warning.
   */
  readonly kind: 'limit' | 'share'
  /** Written where `file` does not exist. */
  readonly instead?: { readonly file: string; readonly value: string }
  /** The file may be missing although its controller is there: then nothing is to be limited. */
  readonly fileOptional?: true
}

/** How many entries of one list or map of the configuration are taken. */
const ENTRIES_MAX = 256
/** Bytes of one raw cgroup v2 value; a page is what the kernel takes. */
const RAW_VALUE_BYTES_MAX = 4096

/** Raw files of the core that only limit; the others would move, kill, freeze or delegate. */
const RAW_CORE_FILES = ['cgroup.max.depth', 'cgroup.max.descendants']

/** Controllers by the part of their files before the first dot. */
const RAW_CONTROLLERS = ['cpu', 'cpuset', 'io', 'memory', 'hugetlb', 'pids', 'rdma', 'misc', 'dmem']

/**
 * What is written, in order, to give a cgroup these resources. Options in cgroup v1's terms are converted as runc and crun do, so
 * that the kubelet finds the values it expects. What cgroup v2 cannot do is UNIMPLEMENTED, nonsense INVALID_ARGUMENT, by name.
 */
export function limitWrites(resources: Resources): LimitWrite[] {
  refuseUnsupported(resources)
  return [
    ...cpuWrites(resources.cpu ?? {}),
    ...cpusetWrites(resources.cpu ?? {}),
    ...memoryWrites(resources.memory ?? {}),
    ...blockWrites(resources.blockIO ?? {}),
    ...pidsWrites(resources.pids ?? {}),
    ...hugepageWrites(resources.hugepageLimits ?? []),
    ...rdmaWrites(resources.rdma ?? {}),
    // Last, because who writes raw values has the last word.
    ...rawWrites(resources.unified ?? {}),
  ]
}

function refuseUnsupported(resources: Resources): void {
  const { memory = {}, cpu = {}, network = {}, blockIO = {} } = resources
  // Zero is how clients written in Go say "not asked", -1 asks for what is so anyway.
  const asked = (value: number | undefined): boolean => value !== undefined && value > 0
  const refused: [string, boolean][] = [
    ['memory.kernel', asked(memory.kernel)],
    ['memory.kernelTCP', asked(memory.kernelTCP)],
    ['memory.swappiness', memory.swappiness !== undefined],
    ['memory.disableOOMKiller', memory.disableOOMKiller === true],
    ['memory.useHierarchy=false', memory.useHierarchy === false],
    ['cpu.realtimeRuntime', asked(cpu.realtimeRuntime)],
    ['cpu.realtimePeriod', asked(cpu.realtimePeriod)],
    ['network.classID', asked(network.classID)],
    ['network.priorities', (network.priorities ?? []).length > 0],
    ['blockIO.leafWeight', asked(blockIO.leafWeight)],
    [
      'blockIO.weightDevice.leafWeight',
      (blockIO.weightDevice ?? []).some((device) => asked(device.leafWeight)),
    ],
  ]
  for (const [name, is] of refused) {
    if (is) throw new Fault('UNIMPLEMENTED', `resources.${name} does not exist in cgroup v2`)
  }
}

type Cpu = NonNullable<Resources['cpu']>

function cpuWrites(cpu: Cpu): LimitWrite[] {
  const writes: LimitWrite[] = []
  const idle = optional(cpu.idle, 'cpu.idle', 0, 1)
  if (idle !== undefined) writes.push(share('cpu', 'cpu.idle', String(idle), 'cpu.idle'))
  const weight = cpuWeight(optional(cpu.shares, 'cpu.shares', 0) ?? 0)
  // The kernel refuses a weight for an idle group, and gives it the least share anyway.
  if (weight > 0 && idle !== 1) {
    writes.push(share('cpu', 'cpu.weight', String(weight), 'cpu.shares'))
  }
  const quota = optional(cpu.quota, 'cpu.quota', -1) ?? 0
  const period = optional(cpu.period, 'cpu.period', 0) ?? 0
  const burst = optional(cpu.burst, 'cpu.burst', 0)
  // The kernel wants burst ≤ quota at every moment, so an old burst must not stand in the way of a lower quota.
  if (burst !== undefined) writes.push(limit('cpu', 'cpu.max.burst', '0', 'cpu.burst'))
  if (quota !== 0 || period !== 0) {
    const value = `${quota > 0 ? quota : 'max'} ${period > 0 ? period : DEFAULT_CPU_PERIOD_US}`
    writes.push(limit('cpu', 'cpu.max', value, quota === 0 ? 'cpu.period' : 'cpu.quota'))
  }
  if (burst) writes.push(limit('cpu', 'cpu.max.burst', String(burst), 'cpu.burst'))
  return writes
}

const DEFAULT_CPU_PERIOD_US = 100_000

/**
 * cpu.weight (1 to 10,000) for cgroup v1's shares (2 to 262,144): a curve through both ends and both defaults, 1,024 and 100. It is
 * the one of today's runc and crun (1.23 on); the kubelet compares. 0 shares is "not asked": 0.
 */
export function cpuWeight(shares: number): number {
  if (shares === 0) return 0
  if (shares <= 2) return 1
  if (shares >= 262_144) return 10_000
  const log = Math.log2(shares)
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))
}

function cpusetWrites(cpu: Cpu): LimitWrite[] {
  const writes: LimitWrite[] = []
  for (const [list, file, option] of [
    [cpu.cpus, 'cpuset.cpus', 'cpu.cpus'],
    [cpu.mems, 'cpuset.mems', 'cpu.mems'],
  ] as const) {
    if (list === undefined || list === '') continue
    if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(list)) {
      throw invalid(option, `"${list}" is no list such as 0-3,6`)
    }
    writes.push(limit('cpuset', file, list, option))
  }
  return writes
}

type Memory = NonNullable<Resources['memory']>

function memoryWrites(memory: Memory): LimitWrite[] {
  const max = optional(memory.limit, 'memory.limit', -1) ?? 0
  const swap = swapMax(optional(memory.swap, 'memory.swap', -1) ?? 0, max)
  const reservation = optional(memory.reservation, 'memory.reservation', -1) ?? 0
  const writes: LimitWrite[] = []
  if (swap !== undefined) {
    const write = limit('memory', 'memory.swap.max', swap, 'memory.swap')
    // A kernel without swap has no such file: then none or any amount of it is the same.
    const isMoot = swap === '0' || swap === 'max'
    writes.push(isMoot ? { ...write, fileOptional: true } : write)
  }
  if (max !== 0) writes.push(limit('memory', 'memory.max', amount(max), 'memory.limit'))
  if (reservation !== 0) {
    writes.push(share('memory', 'memory.low', amount(reservation), 'memory.reservation'))
  }
  return writes
}

/**
 * memory.swap.max for cgroup v1's memory+swap: v2 counts swap alone. Undefined where nothing was asked.
 */
function swapMax(memoryAndSwap: number, memory: number): string | undefined {
  // Unlimited memory with nothing said of swap: no swap limit of an earlier update may remain.
  if (memoryAndSwap === 0) return memory === -1 ? 'max' : undefined
  if (memoryAndSwap === -1) return 'max'
  if (memory <= 0) throw invalid('memory.swap', 'a limit of memory and swap needs memory.limit')
  if (memoryAndSwap < memory) {
    throw invalid(
      'memory.swap',
      `${memoryAndSwap} is memory and swap together, and less than memory.limit (${memory})`,
    )
  }
  return amount(memoryAndSwap - memory)
}

type BlockIo = NonNullable<Resources['blockIO']>

function blockWrites(block: BlockIo): LimitWrite[] {
  const writes: LimitWrite[] = []
  const weight = optional(block.weight, 'blockIO.weight', 0, 1000) ?? 0
  if (weight !== 0) writes.push(weightWrite('', weight, 'blockIO.weight'))
  for (const device of bounded(block.weightDevice ?? [], 'blockIO.weightDevice')) {
    const own = optional(device.weight, 'blockIO.weightDevice', 0, 1000) ?? 0
    if (own === 0) continue
    const name = `${deviceName(device, 'blockIO.weightDevice')} `
    writes.push(weightWrite(name, own, 'blockIO.weightDevice'))
  }
  return [
    ...writes,
    ...throttleWrites(block.throttleReadBpsDevice, 'rbps', 'blockIO.throttleReadBpsDevice'),
    ...throttleWrites(block.throttleWriteBpsDevice, 'wbps', 'blockIO.throttleWriteBpsDevice'),
    ...throttleWrites(block.throttleReadIOPSDevice, 'riops', 'blockIO.throttleReadIOPSDevice'),
    ...throttleWrites(block.throttleWriteIOPSDevice, 'wiops', 'blockIO.throttleWriteIOPSDevice'),
  ]
}

/** BFQ has blkio's own scale (10 to 1,000); io.weight has 1 to 10,000, mapped linearly as runc and crun do. */
function weightWrite(device: string, weight: number, option: string): LimitWrite {
  if (weight < 10) throw invalid(option, `${weight} is not between 10 and 1000`)
  const converted = 1 + Math.floor(((weight - 10) * 9999) / 990)
  return {
    ...share('io', 'io.bfq.weight', `${device}${weight}`, option),
    instead: { file: 'io.weight', value: `${device === '' ? 'default ' : device}${converted}` },
  }
}

function throttleWrites(
  throttles: Throttle[] | undefined,
  key: string,
  option: string,
): LimitWrite[] {
  return bounded(throttles ?? [], option).map((throttle) => {
    const rate = whole(throttle.rate, option, 0)
    // The kernel refuses a rate of 0, which v1 took as "none".
    const value = `${deviceName(throttle, option)} ${key}=${rate === 0 ? 'max' : amount(rate)}`
    return limit('io', 'io.max', value, option)
  })
}

function deviceName(device: { major: number; minor: number }, option: string): string {
  return `${whole(device.major, option, 0)}:${whole(device.minor, option, 0)}`
}

function pidsWrites(pids: { limit?: number }): LimitWrite[] {
  const max = optional(pids.limit, 'pids.limit', -1)
  return max === undefined ? [] : [limit('pids', 'pids.max', amount(max), 'pids.limit')]
}

function hugepageWrites(limits: NonNullable<Resources['hugepageLimits']>): LimitWrite[] {
  return bounded(limits, 'hugepageLimits').flatMap(({ pageSize, limit: max }) => {
    if (!/^[1-9]\d{0,9}[KMG]B$/.test(pageSize)) {
      throw invalid('hugepageLimits', `"${pageSize}" is no page size such as 2MB`)
    }
    const value = amount(whole(max, 'hugepageLimits', 0))
    return [
      limit('hugetlb', `hugetlb.${pageSize}.max`, value, 'hugepageLimits'),
      // Reservations count when mapped, not when touched: a program over its limit gets ENOMEM, not SIGBUS. Linux 5.7.
      {
        ...limit('hugetlb', `hugetlb.${pageSize}.rsvd.max`, value, 'hugepageLimits'),
        fileOptional: true as const,
      },
    ]
  })
}

function rdmaWrites(rdma: NonNullable<Resources['rdma']>): LimitWrite[] {
  return bounded(Object.entries(rdma), 'rdma').map(([device, { hcaHandles, hcaObjects }]) => {
    if (!/^[\w.-]{1,64}$/.test(device)) throw invalid('rdma', `"${device}" is no device name`)
    const parts = [device]
    const handles = optional(hcaHandles, 'rdma.hcaHandles', 0)
    const objects = optional(hcaObjects, 'rdma.hcaObjects', 0)
    if (handles !== undefined) parts.push(`hca_handle=${handles}`)
    if (objects !== undefined) parts.push(`hca_object=${objects}`)
    return limit('rdma', 'rdma.max', parts.join(' '), 'rdma')
  })
}

/** runtime-spec, "Unified": raw files; what cannot be written is an error. A value of several lines is written line by line. */
function rawWrites(unified: Record<string, string>): LimitWrite[] {
  return bounded(Object.entries(unified), 'unified').flatMap(([file, text]) => {
    const option = `unified["${file}"]`
    const [controller = ''] = file.split('.')
    // No '/' and no '..': the file must be one of this very cgroup.
    if (!/^[a-z]\w*(\.[\w-]+)+$/i.test(file)) throw invalid(option, 'it is no file of a cgroup')
    if (controller === 'cgroup' && !RAW_CORE_FILES.includes(file)) {
      throw invalid(option, `of the core files only ${RAW_CORE_FILES.join(' and ')} can be set`)
    }
    if (controller !== 'cgroup' && !RAW_CONTROLLERS.includes(controller)) {
      throw invalid(option, `there is no controller "${controller}"`)
    }
    if (text.length > RAW_VALUE_BYTES_MAX || text.includes('\0')) {
      throw invalid(option, `its value is longer than ${RAW_VALUE_BYTES_MAX} bytes or holds a NUL`)
    }
    return bounded(
      text.split('\n').filter((line, i) => i === 0 || line !== ''),
      option,
    ).map((value) => limit(controller, file, value, option))
  })
}

function limit(controller: string, file: string, value: string, option: string): LimitWrite {
  return { controller, file, value, option, kind: 'limit' }
}

function share(controller: string, file: string, value: string, option: string): LimitWrite {
  return { controller, file, value, option, kind: 'share' }
}

/** -1 is v1's word for no limit. Whole digits also beyond 2^53, where a number would turn to 1e+21. */
function amount(value: number): string {
  return value === -1 ? 'max' : BigInt(value).toString()
}

function optional(
  value: number | undefined,
  option: string,
  least: number,
  most?: number,
): number | undefined {
  return value === undefined ? undefined : whole(value, option, least, most)
}

/** Limits are 64 bits wide in the specification; 2^64 bounds what JSON may bring. */
function whole(value: number, option: string, least: number, most = 2 ** 64): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(
      option,
      `${value} is no whole number from ${least}${most < 2 ** 64 ? ` to ${most}` : ''}`,
    )
  }
  return value
}

function bounded<T>(list: readonly T[], option: string): readonly T[] {
  if (list.length > ENTRIES_MAX) throw invalid(option, `more than ${ENTRIES_MAX} entries`)
  return list
}

function invalid(option: string, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `resources.${option}: ${reason}`)
}
