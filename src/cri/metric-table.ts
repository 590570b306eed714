/**
 * The metrics of pods and containers, under cAdvisor's names and with its labels: what dashboards are made for. A row is a name, its help, its
 * own labels, and how its values come out of figures (metric-values.ts). A figure that is missing gives no value.
 *
 * Values are whole numbers on the wire of the CRI. Seconds lose their fraction there, at every runtime.
 */
import type { CpuStats, IoStats, Pressure } from '../cgroup/index.ts'
import type { InterfaceCounters } from '../kernel/netns.ts'
import type { MetricType } from '../spec/cri.ts'
import type { Figures, MemoryFigures } from './metric-values.ts'

/** Before each metric's own labels. Of a pod's figures image and container are empty, and the name is the pod's id. */
export const BASE_LABELS = ['id', 'name', 'image', 'container', 'pod', 'namespace'] as const

/** Values of the base labels, in their order. */
export function baseLabels(of: Readonly<Record<(typeof BASE_LABELS)[number], string>>): string[] {
  return BASE_LABELS.map((key) => of[key])
}

/** One value with those of the metric's own labels. */
export type Value = readonly [value: bigint, ...labels: string[]]

export interface MetricRow {
  readonly name: string
  readonly help: string
  readonly type: MetricType
  readonly labels: readonly string[]
  readonly values: (of: Figures) => readonly Value[]
}

const US_PER_SECOND = 1_000_000n
const NS_PER_SECOND = 1_000_000_000n
/** The kernel's default, in µs, for who asks for none. */
const CPU_PERIOD = 100_000n
/** What the kernel's default weight of 100 is as shares. */
const CPU_SHARES = 1024n

type Values = (of: Figures) => bigint | readonly Value[] | undefined

function row(type: MetricType) {
  return (
    name: string,
    help: string,
    values: Values,
    labels: readonly string[] = [],
  ): MetricRow => ({
    name,
    help,
    type,
    labels,
    values: (of) => {
      const found = values(of)
      if (found === undefined) return []
      return typeof found === 'bigint' ? [[found]] : found
    },
  })
}

const counter = row('COUNTER')
const gauge = row('GAUGE')

const ofCpu =
  (take: (cpu: CpuStats) => bigint): Values =>
  ({ cpu }) =>
    cpu && take(cpu)

const ofMemory =
  (take: (memory: MemoryFigures) => bigint): Values =>
  ({ memory }) =>
    memory && take(memory)

const pressure =
  (what: 'cpu' | 'memory' | 'io', line: keyof Pressure): Values =>
  (of) => {
    const total = of.pressure?.[what]?.[line]?.totalUs
    return total === undefined ? undefined : total / US_PER_SECOND
  }

const ofDevices =
  (take: (io: IoStats) => bigint): Values =>
  ({ io }) =>
    io?.map((each) => [take(each), each.device])

const ofInterfaces =
  (take: (counters: InterfaceCounters) => bigint): Values =>
  ({ network }) =>
    network?.map((each) => [take(each), each.name])

const ofFilesystem =
  (take: (of: NonNullable<Figures['filesystem']>) => number | undefined): Values =>
  ({ filesystem }) => {
    const value = filesystem && take(filesystem)
    return filesystem && value !== undefined ? [[BigInt(value), filesystem.device]] : undefined
  }

/** An amount that was asked for; 0 where none was, or no limit. */
function asked(text: string | undefined): bigint {
  return text !== undefined && /^\d{1,18}$/.test(text) ? BigInt(text) : 0n
}

const CPU = [
  counter(
    'container_cpu_usage_seconds_total',
    'CPU time that was used, in seconds.',
    ({ cpu }) => cpu && [[cpu.usageUs / US_PER_SECOND, 'total']],
    ['cpu'],
  ),
  counter(
    'container_cpu_user_seconds_total',
    'CPU time that programs have used, in seconds.',
    ofCpu(({ userUs }) => userUs / US_PER_SECOND),
  ),
  counter(
    'container_cpu_system_seconds_total',
    'CPU time that the kernel has used for programs, in seconds.',
    ofCpu(({ systemUs }) => systemUs / US_PER_SECOND),
  ),
  // Without the cpu controller there is no bandwidth limit: then no period has begun, and nobody was held back.
  counter(
    'container_cpu_cfs_periods_total',
    'Periods of the CPU limit that have gone by.',
    ofCpu(({ periods }) => periods ?? 0n),
  ),
  counter(
    'container_cpu_cfs_throttled_periods_total',
    'Periods of the CPU limit in which it was reached.',
    ofCpu(({ throttledPeriods }) => throttledPeriods ?? 0n),
  ),
  counter(
    'container_cpu_cfs_throttled_seconds_total',
    'Time that the CPU limit has held processes back, in seconds.',
    ofCpu(({ throttledUs }) => (throttledUs ?? 0n) / US_PER_SECOND),
  ),
]

const MEMORY = [
  gauge(
    'container_memory_usage_bytes',
    'Memory in use with all page cache, in bytes.',
    ofMemory(({ usage }) => usage),
  ),
  gauge(
    'container_memory_working_set_bytes',
    'Memory in use without the page cache that can go at once, in bytes.',
    ofMemory(({ workingSet }) => workingSet),
  ),
  gauge(
    'container_memory_max_usage_bytes',
    'The most memory that was in use at once, in bytes.',
    ofMemory(({ peak }) => peak),
  ),
  gauge(
    'container_memory_rss',
    'Anonymous memory, in bytes.',
    ofMemory(({ anon }) => anon),
  ),
  gauge(
    'container_memory_cache',
    'Page cache and shared memory, in bytes.',
    ofMemory(({ file }) => file),
  ),
  gauge(
    'container_memory_mapped_file',
    'Page cache and shared memory that processes have mapped, in bytes.',
    ofMemory(({ mapped }) => mapped),
  ),
  gauge(
    'container_memory_kernel_usage',
    "The kernel's own memory for the container, in bytes.",
    ofMemory(({ kernel }) => kernel),
  ),
  gauge(
    'container_memory_swap',
    'Memory that is swapped out, in bytes.',
    ofMemory(({ swap }) => swap),
  ),
  counter(
    'container_memory_failcnt',
    'Times that the memory limit was reached.',
    ofMemory(({ limitHits }) => limitHits),
  ),
  counter(
    'container_memory_failures_total',
    'Page faults; major ones had to wait for a disk.',
    // A cgroup's figures are those of everything below it.
    ({ memory }) =>
      memory &&
      ['container', 'hierarchy'].flatMap((scope): Value[] => [
        [memory.faults, 'pgfault', scope],
        [memory.majorFaults, 'pgmajfault', scope],
      ]),
    ['failure_type', 'scope'],
  ),
  counter(
    'container_oom_events_total',
    'Processes that were killed because memory ran out.',
    ofMemory(({ oomKills }) => oomKills),
  ),
]

const HUGEPAGES = [
  gauge(
    'container_hugetlb_usage_bytes',
    'Huge pages in use, in bytes.',
    ({ hugepages }) => hugepages?.map((each) => [each.currentBytes, each.pageSize]),
    ['pagesize'],
  ),
  gauge(
    'container_hugetlb_max_usage_bytes',
    'The most of huge pages that was seen in use, in bytes.',
    ({ hugepages }) => hugepages?.map((each) => [each.peakBytes, each.pageSize]),
    ['pagesize'],
  ),
]

const PRESSURE = [
  counter(
    'container_pressure_cpu_waiting_seconds_total',
    'Time that some task has waited for a CPU, in seconds.',
    pressure('cpu', 'some'),
  ),
  counter(
    'container_pressure_cpu_stalled_seconds_total',
    'Time that all tasks have waited for a CPU, in seconds.',
    pressure('cpu', 'full'),
  ),
  counter(
    'container_pressure_memory_waiting_seconds_total',
    'Time that some task has waited for memory, in seconds.',
    pressure('memory', 'some'),
  ),
  counter(
    'container_pressure_memory_stalled_seconds_total',
    'Time that all tasks have waited for memory, in seconds.',
    pressure('memory', 'full'),
  ),
  counter(
    'container_pressure_io_waiting_seconds_total',
    'Time that some task has waited for a disk, in seconds.',
    pressure('io', 'some'),
  ),
  counter(
    'container_pressure_io_stalled_seconds_total',
    'Time that all tasks have waited for a disk, in seconds.',
    pressure('io', 'full'),
  ),
]

const DEVICES = [
  counter(
    'container_fs_reads_bytes_total',
    'Bytes read from disks.',
    ofDevices(({ readBytes }) => readBytes),
    ['device'],
  ),
  counter(
    'container_fs_reads_total',
    'Reads from disks.',
    ofDevices(({ reads }) => reads),
    ['device'],
  ),
  counter(
    'container_fs_writes_bytes_total',
    'Bytes written to disks.',
    ofDevices(({ writtenBytes }) => writtenBytes),
    ['device'],
  ),
  counter(
    'container_fs_writes_total',
    'Writes to disks.',
    ofDevices(({ writes }) => writes),
    ['device'],
  ),
  counter(
    'container_blkio_device_usage_total',
    'Bytes read from and written to disks.',
    ({ io }) =>
      io?.flatMap((each): Value[] => [
        [each.readBytes, each.device, String(each.major), String(each.minor), 'Read'],
        [each.writtenBytes, each.device, String(each.major), String(each.minor), 'Write'],
      ]),
    ['device', 'major', 'minor', 'operation'],
  ),
]

const FILESYSTEM = [
  gauge(
    'container_fs_usage_bytes',
    'Bytes of the writable layer.',
    ofFilesystem(({ layer }) => layer?.bytes),
    ['device'],
  ),
  gauge(
    'container_fs_limit_bytes',
    'Bytes of the whole file system that the writable layer is on.',
    ofFilesystem(({ usage }) => usage.totalBytes),
    ['device'],
  ),
  // As cAdvisor tells them: the one is of the container, the other of the whole file system. critest asks for both.
  gauge(
    'container_fs_inodes_total',
    'Inodes of the writable layer.',
    ofFilesystem(({ layer }) => layer?.inodes),
    ['device'],
  ),
  gauge(
    'container_fs_inodes_free',
    'Free inodes of the file system that the writable layer is on.',
    ofFilesystem(({ usage }) => usage.inodesFree),
    ['device'],
  ),
]

/** What comes of the writable layer's last measurement; all else is of the moment it is told. */
export const MEASURED_BEFORE: ReadonlySet<string> = new Set([
  'container_fs_usage_bytes',
  'container_fs_inodes_total',
])

const NETWORK = [
  counter(
    'container_network_receive_bytes_total',
    'Bytes received.',
    ofInterfaces(({ received }) => received.bytes),
    ['interface'],
  ),
  counter(
    'container_network_receive_packets_total',
    'Packets received.',
    ofInterfaces(({ received }) => received.packets),
    ['interface'],
  ),
  counter(
    'container_network_receive_packets_dropped_total',
    'Packets dropped on reception.',
    ofInterfaces(({ received }) => received.dropped),
    ['interface'],
  ),
  counter(
    'container_network_receive_errors_total',
    'Errors of reception.',
    ofInterfaces(({ received }) => received.errors),
    ['interface'],
  ),
  counter(
    'container_network_transmit_bytes_total',
    'Bytes sent.',
    ofInterfaces(({ sent }) => sent.bytes),
    ['interface'],
  ),
  counter(
    'container_network_transmit_packets_total',
    'Packets sent.',
    ofInterfaces(({ sent }) => sent.packets),
    ['interface'],
  ),
  counter(
    'container_network_transmit_packets_dropped_total',
    'Packets dropped on sending.',
    ofInterfaces(({ sent }) => sent.dropped),
    ['interface'],
  ),
  counter(
    'container_network_transmit_errors_total',
    'Errors of sending.',
    ofInterfaces(({ sent }) => sent.errors),
    ['interface'],
  ),
]

const PROCESSES = [
  gauge('container_processes', 'Processes in the container.', ({ processes }) => processes?.count),
  gauge('container_threads', 'Threads in the container.', ({ processes }) => processes?.threads),
  gauge(
    'container_threads_max',
    'Threads that the container may have; 0 is no limit.',
    ({ processes }) => processes?.threadsMax,
  ),
  gauge(
    'container_file_descriptors',
    'Open files of all processes.',
    ({ processes }) => processes?.descriptors,
  ),
  gauge(
    'container_sockets',
    'Open files of all processes that are sockets.',
    ({ processes }) => processes?.sockets,
  ),
  gauge(
    'container_ulimits_soft',
    'Soft limits of the first process.',
    ({ processes }) =>
      processes?.openFilesLimit === undefined
        ? undefined
        : [[processes.openFilesLimit, 'max_open_files']],
    ['ulimit'],
  ),
]

const REQUEST = [
  gauge(
    'container_spec_cpu_period',
    'Period of the CPU limit, in microseconds.',
    ({ resources }) => resources && (asked(resources.cpuPeriod) || CPU_PERIOD),
  ),
  gauge(
    'container_spec_cpu_quota',
    'CPU time that each period allows, in microseconds; missing without a limit.',
    ({ resources }) => (resources && asked(resources.cpuQuota)) || undefined,
  ),
  gauge(
    'container_spec_cpu_shares',
    'Shares of CPU time.',
    ({ resources }) => resources && (asked(resources.cpuShares) || CPU_SHARES),
  ),
  gauge(
    'container_spec_memory_limit_bytes',
    'Memory limit, in bytes; 0 is none.',
    ({ resources, memory }) => resources && (memory?.limit ?? asked(resources.memoryLimitInBytes)),
  ),
  gauge(
    'container_spec_memory_swap_limit_bytes',
    'Limit of memory and swap together, in bytes; 0 is none.',
    ({ resources }) => resources && asked(resources.memorySwapLimitInBytes),
  ),
  gauge(
    'container_spec_memory_reservation_limit_bytes',
    'Memory that is never taken away (memory.min), in bytes.',
    ({ resources }) => resources && asked(resources.unified['memory.min']),
  ),
]

const LIFE = [
  gauge(
    'container_start_time_seconds',
    'When the container was started, in seconds since 1970.',
    ({ startedNs }) => (startedNs === undefined ? undefined : startedNs / NS_PER_SECOND),
  ),
  gauge(
    'container_last_seen',
    'When these figures were taken, in seconds since 1970.',
    ({ seenNs }) => seenNs / NS_PER_SECOND,
  ),
]

export const METRICS: readonly MetricRow[] = [
  ...CPU,
  ...MEMORY,
  ...HUGEPAGES,
  ...PRESSURE,
  ...DEVICES,
  ...FILESYSTEM,
  ...NETWORK,
  ...PROCESSES,
  ...REQUEST,
  ...LIFE,
]
