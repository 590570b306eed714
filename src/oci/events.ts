import { setTimeout as delay } from 'node:timers/promises'
import { parseDuration } from '../base/duration.ts'
import { Fault } from '../base/fault.ts'
import { type CgroupStats, groupStats, type Pressure } from '../cgroup/index.ts'
import { type Place, readRecord } from './record.ts'
import { isAlive } from './status.ts'

/** One line of statistics, in the shape that runc gives them. */
export function statsEvent(place: Place): object {
  const record = readRecord(place)
  if (!isAlive(record)) {
    throw new Fault('FAILED_PRECONDITION', `container not running: ${record.id}`)
  }
  return { type: 'stats', id: record.id, data: statsData(groupStats(record.cgroup)) }
}

/** Tells a line every so often, until the container ends. */
export async function followStats(
  place: Place,
  interval: string,
  tell: (event: object) => void,
): Promise<void> {
  const every = parseDuration(interval)
  if (every === undefined || every <= 0n) {
    throw new Fault('INVALID_ARGUMENT', `--interval: ${JSON.stringify(interval)} is no duration`)
  }
  for (;;) {
    await delay(Number(every / 1_000_000n))
    if (!isAlive(readRecord(place))) return
    tell(statsEvent(place))
  }
}

function statsData({ cpu, memory, io, pids, hugepages, pressure }: CgroupStats): object {
  const number = (value: bigint | undefined): number => Number(value ?? 0n)
  const psi = (name: 'cpu' | 'memory' | 'io') =>
    pressure[name] ? { psi: psiData(pressure[name]) } : {}
  return {
    cpu: {
      usage: {
        total: number(cpu?.usageUs) * 1000,
        kernel: number(cpu?.systemUs) * 1000,
        user: number(cpu?.userUs) * 1000,
      },
      throttling: {
        periods: number(cpu?.periods),
        throttledPeriods: number(cpu?.throttledPeriods),
        throttledTime: number(cpu?.throttledUs) * 1000,
      },
      ...psi('cpu'),
    },
    memory: {
      cache: number(memory?.fileBytes),
      usage: {
        limit: memory?.maxBytes === undefined ? 0 : Number(memory.maxBytes),
        usage: number(memory?.currentBytes),
        max: number(memory?.peakBytes),
        failcnt: 0,
      },
      swap: {
        limit: number(memory?.swapMaxBytes),
        usage: number(memory?.swapCurrentBytes),
        failcnt: 0,
      },
      raw: Object.fromEntries([...(memory?.all ?? [])].map(([key, value]) => [key, Number(value)])),
      ...psi('memory'),
    },
    pids: { current: number(pids?.current), limit: number(pids?.max) },
    blkio: {
      ioServiceBytesRecursive: (io ?? []).flatMap(({ major, minor, readBytes, writtenBytes }) => [
        { major, minor, op: 'Read', value: Number(readBytes) },
        { major, minor, op: 'Write', value: Number(writtenBytes) },
      ]),
      ioServicedRecursive: (io ?? []).flatMap(({ major, minor, reads, writes }) => [
        { major, minor, op: 'Read', value: Number(reads) },
        { major, minor, op: 'Write', value: Number(writes) },
      ]),
      ...psi('io'),
    },
    hugetlb: Object.fromEntries(
      hugepages.map(({ pageSize, currentBytes, refused }) => [
        pageSize,
        { usage: Number(currentBytes), failcnt: Number(refused) },
      ]),
    ),
    intel_rdt: {},
    network_interfaces: null,
  }
}

function psiData({ some, full }: Pressure): object {
  const line = (part: Pressure['some'] | undefined) => ({
    avg10: part?.avg10 ?? 0,
    avg60: part?.avg60 ?? 0,
    avg300: part?.avg300 ?? 0,
    total: Number(part?.totalUs ?? 0n),
  })
  return { some: line(some), full: line(full) }
}
