import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { nowNs } from '../base/clock.ts'
import { isErrno } from '../base/fault.ts'
import { groupStats } from '../cgroup/index.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'
import { groupPids, residentBytes } from './processes.ts'
import { readRunMark } from './status.ts'
import type { Container, ContainerStats } from './types.ts'

/** One sample a container; `previous` (by id) gives the percentages. A container that is not running has a sample of nothing. */
export async function containerStats(
  engine: Engine,
  refs: readonly string[],
  previous?: ReadonlyMap<string, ContainerStats>,
): Promise<ContainerStats[]> {
  const samples: ContainerStats[] = []
  for (const ref of refs) {
    const container = await findContainer(engine, ref)
    samples.push(sample(engine, container, previous?.get(container.record.id)))
  }
  return samples
}

function sample(
  engine: Engine,
  { record, status }: Container,
  before: ContainerStats | undefined,
): ContainerStats {
  const cgroup = readRunMark(engine, record.id)?.cgroup ?? ''
  const live = (status.state === 'running' || status.state === 'paused') && cgroup !== ''
  const host = BigInt(totalmem())
  const time = nowNs()
  if (!live) {
    return {
      id: record.id,
      name: record.name,
      timeNs: String(time),
      cpuNs: undefined,
      cpuPercent: undefined,
      memoryBytes: undefined,
      memoryLimitBytes: host,
      pids: undefined,
      networkReceivedBytes: 0n,
      networkSentBytes: 0n,
      blockReadBytes: undefined,
      blockWrittenBytes: undefined,
    }
  }
  const stats = groupStats(cgroup)
  const pids =
    stats.pids?.current === undefined || stats.memory?.currentBytes === undefined
      ? groupPids(cgroup)
      : []
  const cpuNs = stats.cpu?.usageUs === undefined ? undefined : stats.cpu.usageUs * 1000n
  const network = networkBytes(status.pid)
  const limit = stats.memory?.maxBytes
  return {
    id: record.id,
    name: record.name,
    timeNs: String(time),
    cpuNs,
    cpuPercent: percent(cpuNs, time, before),
    // Without the memory controller: what the processes have in memory, shared pages counted for each.
    memoryBytes: stats.memory?.currentBytes ?? residentBytes(pids),
    memoryLimitBytes: limit !== undefined && limit < host ? limit : host,
    pids: stats.pids?.current ?? BigInt(pids.length),
    networkReceivedBytes: network.received,
    networkSentBytes: network.sent,
    blockReadBytes: stats.io?.reduce((sum, device) => sum + device.readBytes, 0n),
    blockWrittenBytes: stats.io?.reduce((sum, device) => sum + device.writtenBytes, 0n),
  }
}

/** In hundredths of one core, as docker shows it: two busy cores are 200. */
function percent(
  cpuNs: bigint | undefined,
  time: bigint,
  before: ContainerStats | undefined,
): number | undefined {
  if (cpuNs === undefined || before?.cpuNs === undefined) return
  const span = time - BigInt(before.timeNs)
  return span > 0n ? Number(((cpuNs - before.cpuNs) * 10000n) / span) / 100 : undefined
}

/** Of all interfaces in the network namespace of a process but its loopback. */
function networkBytes(pid: number): { received: bigint; sent: bigint } {
  const sum = { received: 0n, sent: 0n }
  try {
    for (const line of readFileSync(`/proc/${pid}/net/dev`, 'utf8').split('\n').slice(2)) {
      const [name, numbers] = line.split(':')
      const field = numbers?.trim().split(/\s+/)
      if (
        name === undefined ||
        field?.[8] === undefined ||
        field[0] === undefined ||
        name.trim() === 'lo'
      )
        continue
      sum.received += BigInt(field[0])
      sum.sent += BigInt(field[8])
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ESRCH', 'EINVAL')) throw error
  }
  return sum
}
