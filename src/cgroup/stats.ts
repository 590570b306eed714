import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { parseFlat } from './events.ts'

/** What a group uses. A field whose controller or kernel feature is missing is undefined, never 0. */
export interface CgroupStats {
  /** When it was read, nanoseconds since the epoch. */
  readonly timestampNs: bigint
  readonly cpu: CpuStats | undefined
  readonly memory: MemoryStats | undefined
  readonly io: readonly IoStats[] | undefined
  readonly pids: PidsStats | undefined
  readonly hugepages: readonly HugepageStats[]
  readonly pressure: {
    readonly cpu: Pressure | undefined
    readonly memory: Pressure | undefined
    readonly io: Pressure | undefined
  }
}

export interface CpuStats {
  readonly usageUs: number
  readonly userUs: number
  readonly systemUs: number
  /** Of the bandwidth limit; undefined without the cpu controller. */
  readonly periods: number | undefined
  readonly throttledPeriods: number | undefined
  readonly throttledUs: number | undefined
}

/** Bytes, but for the counters. */
export interface MemoryStats {
  readonly current: number
  /** Undefined for no limit. */
  readonly limit: number | undefined
  readonly peak: number | undefined
  readonly swapCurrent: number | undefined
  readonly swapLimit: number | undefined
  /** What the kubelet calls working set: in use without the page cache that can go at once. */
  readonly workingSet: number
  readonly anon: number
  readonly file: number
  readonly kernel: number
  readonly pageFaults: number
  readonly majorPageFaults: number
  /** The whole of memory.stat. */
  readonly all: ReadonlyMap<string, number>
}

/** One device's transfers since the group was made. */
export interface IoStats {
  readonly major: number
  readonly minor: number
  readonly readBytes: number
  readonly writtenBytes: number
  readonly reads: number
  readonly writes: number
}

export interface PidsStats {
  readonly current: number
  /** Undefined for no limit. */
  readonly limit: number | undefined
}

export interface HugepageStats {
  /** As in the file's name: 2MB, 1GB. */
  readonly pageSize: string
  readonly current: number
  readonly limit: number | undefined
  /** Times an allocation was refused. */
  readonly refused: number
}

export interface Pressure {
  readonly some: PressureLine
  /** Undefined where the kernel does not tell (cpu before Linux 5.13). */
  readonly full: PressureLine | undefined
}

export interface PressureLine {
  /** Percent of the last 10, 60 and 300 seconds. */
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
  readonly totalUs: number
}

/** Undefined where the group is gone. */
export function readStats(directory: string): CgroupStats | undefined {
  const read = (file: string): string | undefined => readIfThere(join(directory, file))
  const cpu = read('cpu.stat')
  // Every group has cpu.stat, with or without the controller.
  if (cpu === undefined) return undefined
  const io = read('io.stat')
  return {
    timestampNs: BigInt(Date.now()) * 1_000_000n,
    cpu: parseCpu(cpu),
    memory: readMemory(read),
    io: io === undefined ? undefined : parseIo(io),
    pids: readPids(read),
    hugepages: readHugepages(directory, read),
    pressure: {
      cpu: parsePressure(read('cpu.pressure')),
      memory: parsePressure(read('memory.pressure')),
      io: parsePressure(read('io.pressure')),
    },
  }
}

type Read = (file: string) => string | undefined

/** ENODEV: the group went away after the open. EOPNOTSUPP: pressure is switched off (psi=0, cgroup.pressure). */
function readIfThere(file: string): string | undefined {
  try {
    return readFileIfAny(file)
  } catch (error) {
    if (isErrno(error, 'ENODEV', 'EOPNOTSUPP', 'ENOTSUP')) return undefined
    throw error
  }
}

export function parseCpu(text: string): CpuStats | undefined {
  const values = parseFlat(text)
  const usageUs = values.get('usage_usec')
  if (usageUs === undefined) return undefined
  return {
    usageUs,
    userUs: values.get('user_usec') ?? 0,
    systemUs: values.get('system_usec') ?? 0,
    periods: values.get('nr_periods'),
    throttledPeriods: values.get('nr_throttled'),
    throttledUs: values.get('throttled_usec'),
  }
}

function readMemory(read: Read): MemoryStats | undefined {
  const current = amount(read('memory.current'))
  if (current === undefined) return undefined
  const all = parseFlat(read('memory.stat') ?? '')
  const of = (key: string): number => all.get(key) ?? 0
  return {
    current,
    limit: amount(read('memory.max')),
    peak: amount(read('memory.peak')),
    swapCurrent: amount(read('memory.swap.current')),
    swapLimit: amount(read('memory.swap.max')),
    workingSet: Math.max(0, current - of('inactive_file')),
    anon: of('anon'),
    file: of('file'),
    kernel: of('kernel'),
    pageFaults: of('pgfault'),
    majorPageFaults: of('pgmajfault'),
    all,
  }
}

function readPids(read: Read): PidsStats | undefined {
  const current = amount(read('pids.current'))
  return current === undefined ? undefined : { current, limit: amount(read('pids.max')) }
}

/** Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`; a device without transfers may have no settings. */
export function parseIo(text: string): IoStats[] {
  const devices: IoStats[] = []
  for (const line of text.split('\n')) {
    const [name = '', ...settings] = line.split(' ')
    const match = /^(\d+):(\d+)$/.exec(name)
    if (!match) continue
    const values = parseSettings(settings)
    devices.push({
      major: Number(match[1]),
      minor: Number(match[2]),
      readBytes: values.get('rbytes') ?? 0,
      writtenBytes: values.get('wbytes') ?? 0,
      reads: values.get('rios') ?? 0,
      writes: values.get('wios') ?? 0,
    })
  }
  return devices
}

function readHugepages(directory: string, read: Read): HugepageStats[] {
  const stats: HugepageStats[] = []
  for (const file of namesOf(directory)) {
    const pageSize = /^hugetlb\.([^.]+)\.current$/.exec(file)?.[1]
    const current = pageSize === undefined ? undefined : amount(read(file))
    if (pageSize === undefined || current === undefined) continue
    stats.push({
      pageSize,
      current,
      limit: amount(read(`hugetlb.${pageSize}.max`)),
      refused: parseFlat(read(`hugetlb.${pageSize}.events`) ?? '').get('max') ?? 0,
    })
  }
  return stats
}

function namesOf(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return []
    throw error
  }
}

/** Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`. */
export function parsePressure(text: string | undefined): Pressure | undefined {
  const lines = new Map<string, PressureLine>()
  for (const line of (text ?? '').split('\n')) {
    const [kind, ...settings] = line.split(' ')
    if (kind === undefined || settings.length === 0) continue
    const values = parseSettings(settings)
    lines.set(kind, {
      avg10: values.get('avg10') ?? 0,
      avg60: values.get('avg60') ?? 0,
      avg300: values.get('avg300') ?? 0,
      totalUs: values.get('total') ?? 0,
    })
  }
  const some = lines.get('some')
  return some && { some, full: lines.get('full') }
}

function parseSettings(settings: readonly string[]): Map<string, number> {
  return new Map(
    settings.map((setting) => {
      const [key = '', value = ''] = setting.split('=')
      return [key, Number(value)]
    }),
  )
}

/** A file of one number; 'max' and a missing file are undefined. */
function amount(text: string | undefined): number | undefined {
  const trimmed = text?.trim()
  return trimmed === undefined || trimmed === '' || trimmed === 'max' ? undefined : Number(trimmed)
}
