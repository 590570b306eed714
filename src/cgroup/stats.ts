import { readdirSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { parseFlat } from './events.ts'
import { words } from './host.ts'

/** What a group uses. A field whose controller or kernel feature is missing is undefined, never 0. */
export interface CgroupStats {
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
  readonly usageUs: bigint
  readonly userUs: bigint
  readonly systemUs: bigint
  /** Of the bandwidth limit; undefined without the cpu controller. */
  readonly periods: bigint | undefined
  readonly throttledPeriods: bigint | undefined
  readonly throttledUs: bigint | undefined
}

export interface MemoryStats {
  readonly currentBytes: bigint
  /** Undefined for no limit. */
  readonly maxBytes: bigint | undefined
  readonly peakBytes: bigint | undefined
  readonly swapCurrentBytes: bigint | undefined
  readonly swapMaxBytes: bigint | undefined
  /** What the kubelet calls working set: in use without the page cache that can go at once. */
  readonly workingSetBytes: bigint
  readonly anonBytes: bigint
  readonly fileBytes: bigint
  readonly kernelBytes: bigint
  readonly pageFaults: bigint
  readonly majorPageFaults: bigint
  /** The whole of memory.stat. */
  readonly all: ReadonlyMap<string, bigint>
}

/** One device's transfers since the group was made. */
export interface IoStats {
  readonly major: number
  readonly minor: number
  readonly readBytes: bigint
  readonly writtenBytes: bigint
  readonly reads: bigint
  readonly writes: bigint
}

export interface PidsStats {
  readonly current: bigint
  /** Undefined for no limit. */
  readonly max: bigint | undefined
}

export interface HugepageStats {
  /** As in the file's name: 2MB, 1GB. */
  readonly pageSize: string
  readonly currentBytes: bigint
  readonly maxBytes: bigint | undefined
  /** Times an allocation was refused. */
  readonly refused: bigint
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
  readonly totalUs: bigint
}

/** What a group uses now; of many at once kernel/group-usage.ts tells what is asked for often. Of a group that is gone every field is undefined. */
export function groupStats(directory: string): CgroupStats {
  const read: Read = (file) => readIfThere(`${directory}/${file}`)
  // To open a file that is not there costs more than to read one.
  const has = words(read('cgroup.controllers') ?? '')
  const cpu = read('cpu.stat')
  const io = has.includes('io') ? read('io.stat') : undefined
  return {
    cpu: cpu === undefined ? undefined : parseCpu(cpu),
    memory: has.includes('memory') ? readMemory(read) : undefined,
    io: io === undefined ? undefined : parseIo(io),
    pids: has.includes('pids') ? readPids(read) : undefined,
    // Many files, which few ask for: looked at when they do.
    get hugepages() {
      return has.includes('hugetlb') ? readHugepages(directory, read) : []
    },
    pressure: {
      cpu: parsePressure(read('cpu.pressure')),
      memory: parsePressure(read('memory.pressure')),
      io: parsePressure(read('io.pressure')),
    },
  }
}

type Read = (file: string) => string | undefined

/** EOPNOTSUPP: pressure is switched off (psi=0, cgroup.pressure). */
function readIfThere(file: string): string | undefined {
  try {
    return readFileIfAny(file)
  } catch (error) {
    if (isErrno(error, 'EOPNOTSUPP')) return undefined
    throw error
  }
}

export function parseCpu(text: string): CpuStats | undefined {
  const values = parseFlat(text)
  const usageUs = values.get('usage_usec')
  if (usageUs === undefined) return undefined
  return {
    usageUs,
    userUs: values.get('user_usec') ?? 0n,
    systemUs: values.get('system_usec') ?? 0n,
    periods: values.get('nr_periods'),
    throttledPeriods: values.get('nr_throttled'),
    throttledUs: values.get('throttled_usec'),
  }
}

function readMemory(read: Read): MemoryStats | undefined {
  const currentBytes = amount(read('memory.current'))
  if (currentBytes === undefined) return undefined
  const all = parseFlat(read('memory.stat') ?? '')
  const of = (key: string): bigint => all.get(key) ?? 0n
  const workingSetBytes = currentBytes - of('inactive_file')
  return {
    currentBytes,
    maxBytes: amount(read('memory.max')),
    peakBytes: amount(read('memory.peak')),
    swapCurrentBytes: amount(read('memory.swap.current')),
    swapMaxBytes: amount(read('memory.swap.max')),
    // The two files are read one after the other.
    workingSetBytes: workingSetBytes > 0n ? workingSetBytes : 0n,
    anonBytes: of('anon'),
    fileBytes: of('file'),
    kernelBytes: of('kernel'),
    pageFaults: of('pgfault'),
    majorPageFaults: of('pgmajfault'),
    all,
  }
}

function readPids(read: Read): PidsStats | undefined {
  const current = amount(read('pids.current'))
  return current === undefined ? undefined : { current, max: amount(read('pids.max')) }
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
      readBytes: count(values.get('rbytes')),
      writtenBytes: count(values.get('wbytes')),
      reads: count(values.get('rios')),
      writes: count(values.get('wios')),
    })
  }
  return devices
}

function readHugepages(directory: string, read: Read): HugepageStats[] {
  const stats: HugepageStats[] = []
  for (const file of namesOf(directory)) {
    const pageSize = /^hugetlb\.([^.]+)\.current$/.exec(file)?.[1]
    const currentBytes = pageSize === undefined ? undefined : amount(read(file))
    if (pageSize === undefined || currentBytes === undefined) continue
    stats.push({
      pageSize,
      currentBytes,
      maxBytes: amount(read(`hugetlb.${pageSize}.max`)),
      refused: parseFlat(read(`hugetlb.${pageSize}.events`) ?? '').get('max') ?? 0n,
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

const PRESSURE =
  /^(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d{1,20})$/gm

/** Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`. */
export function parsePressure(text: string | undefined): Pressure | undefined {
  let some: PressureLine | undefined
  let full: PressureLine | undefined
  for (const [, kind, avg10, avg60, avg300, total] of (text ?? '').matchAll(PRESSURE)) {
    const line = {
      avg10: Number(avg10),
      avg60: Number(avg60),
      avg300: Number(avg300),
      totalUs: count(total),
    }
    if (kind === 'some') some = line
    else full = line
  }
  return some && { some, full }
}

function parseSettings(settings: readonly string[]): Map<string, string> {
  return new Map(
    settings.map((setting) => {
      const [key = '', value = ''] = setting.split('=')
      return [key, value]
    }),
  )
}

function count(text: string | undefined): bigint {
  return text !== undefined && /^\d{1,20}$/.test(text) ? BigInt(text) : 0n
}

/** A file of one number; 'max' and a missing file are undefined. */
function amount(text: string | undefined): bigint | undefined {
  const trimmed = text?.trim()
  return trimmed !== undefined && /^\d{1,20}$/.test(trimmed) ? BigInt(trimmed) : undefined
}
