import { totalmem } from 'node:os'
import { nowNs } from '../base/clock.ts'
import type { CgroupStats } from '../cgroup/index.ts'
import { networkCounters } from '../kernel/netns.ts'
import { podCgroup } from '../pod/cgroup.ts'
import { writableLayerUsage } from '../pod/images.ts'
import type { Container, Node, Pod } from '../pod/index.ts'
import { POD_INTERFACE } from '../pod/network-request.ts'
import { type Sample, type Samples, sampleAll } from '../pod/stats.ts'
import type * as cri from '../spec/cri.ts'
import type { Reply } from './wire.ts'

const NS_PER_US = 1000n

/** What these running containers use. A cgroup that is just going away is no error: its figures are missing. */
export async function statsOfContainers(
  node: Node,
  containers: readonly Container[],
): Promise<Reply<cri.ContainerStats>[]> {
  const looks = containers.map((container) => ({ container, cgroup: container.cgroup }))
  const samples = await sampleAll(node.rates, cgroupsOf(looks))
  return looks.flatMap((look) => containerStats(node, look, samples))
}

interface LookAt {
  readonly container: Container
  /** As it is at the beginning: a container that has ended has none. */
  readonly cgroup: string
}

const cgroupsOf = (looks: readonly LookAt[]): string[] =>
  looks.flatMap(({ cgroup }) => (cgroup === '' ? [] : [cgroup]))

/** None where it has ended. What the host cannot tell is missing, never 0. */
function containerStats(
  node: Node,
  { container, cgroup }: LookAt,
  samples: Samples,
): Reply<cri.ContainerStats>[] {
  const now = samples.get(cgroup)
  if (!now) return []
  const { record } = container
  const { config } = record
  const layer = writableLayerUsage(node.engine, node.at.upper(container.pod.id, container.id))
  const timestamp = String(now.timeNs)
  const { memory } = now.stats
  const stats: Reply<cri.ContainerStats> = {
    attributes: {
      id: record.id,
      metadata: config.metadata,
      labels: config.labels,
      annotations: config.annotations,
    },
    cpu: cpuUsage(now),
    memory: memoryUsage(now),
    ...(layer
      ? {
          writableLayer: {
            timestamp: String(layer.timestampNs),
            fsId: { mountpoint: node.engine.root },
            usedBytes: value(layer.bytes),
            inodesUsed: value(layer.inodes),
          },
        }
      : {}),
    ...(memory?.swapCurrentBytes !== undefined
      ? {
          swap: {
            timestamp,
            swapUsageBytes: value(memory.swapCurrentBytes),
            ...(memory.swapMaxBytes === undefined
              ? {}
              : { swapAvailableBytes: value(less(memory.swapMaxBytes, memory.swapCurrentBytes)) }),
          },
        }
      : {}),
    ...ioUsage(now),
  }
  return [stats]
}

/** What pods use: by its own cgroup where one has it, else the sum of its containers. */
export async function statsOfPods(
  node: Node,
  pods: readonly Pod[],
): Promise<PromiseSettledResult<Reply<cri.PodSandboxStats>>[]> {
  const all = pods.map((pod) => ({
    pod,
    cgroup: podCgroup(pod),
    running: [...pod.containers.values()]
      .filter(({ status }) => status.state === 'running')
      .map((container) => ({ container, cgroup: container.cgroup })),
  }))
  const cgroups = all.flatMap(({ cgroup, running }) => [cgroup ?? [], cgroupsOf(running)].flat())
  const samples = await sampleAll(node.rates, [...new Set(cgroups)])
  return Promise.allSettled(all.map((each) => podStats(node, each, samples)))
}

async function podStats(
  node: Node,
  of: { readonly pod: Pod; readonly cgroup: string | undefined; readonly running: LookAt[] },
  samples: Samples,
): Promise<Reply<cri.PodSandboxStats>> {
  const { pod, cgroup, running } = of
  const { record } = pod
  const containers = running.flatMap((each) => containerStats(node, each, samples))
  const now = cgroup === undefined ? undefined : samples.get(cgroup)
  const network = await networkUsage(pod)
  const timestamp = String(now?.timeNs ?? containers[0]?.cpu?.timestamp ?? 0)
  return {
    attributes: {
      id: record.id,
      metadata: record.config.metadata,
      labels: record.config.labels,
      annotations: record.config.annotations,
    },
    linux: {
      cpu: now ? cpuUsage(now) : sumCpu(containers),
      memory: now ? memoryUsage(now) : sumMemory(containers),
      ...(network ? { network } : {}),
      process: {
        timestamp,
        processCount: value(now?.processes ?? processesOf(running, samples)),
      },
      containers,
      ...(now ? ioUsage(now) : {}),
    },
  }
}

/** Of the pod's own network; undefined where it has the host's. */
async function networkUsage(pod: Pod): Promise<Reply<cri.NetworkUsage> | undefined> {
  const path = pod.held.network
  if (path === undefined) return
  const timestamp = String(nowNs())
  // With the loopback: the kubelet's summary has to list some beside the default one.
  const interfaces = (await networkCounters(path)).map(({ name, received, sent }) => ({
    name,
    rxBytes: value(received.bytes),
    rxErrors: value(received.errors),
    txBytes: value(sent.bytes),
    txErrors: value(sent.errors),
  }))
  const isDefault = ({ name }: { name: string }): boolean => name === POD_INTERFACE
  const defaultInterface = interfaces.find(isDefault)
  return {
    timestamp,
    ...(defaultInterface ? { defaultInterface } : {}),
    interfaces: interfaces.filter((each) => !isDefault(each)),
  }
}

const processesOf = (running: readonly LookAt[], samples: Samples): bigint =>
  running.reduce((sum, { cgroup }) => sum + (samples.get(cgroup)?.processes ?? 0n), 0n)

function cpuUsage({ stats, nanoCores, timeNs }: Sample): Reply<cri.CpuUsage> | undefined {
  if (!stats.cpu) return
  return {
    timestamp: String(timeNs),
    usageCoreNanoSeconds: value(stats.cpu.usageUs * NS_PER_US),
    ...(nanoCores === undefined ? {} : { usageNanoCores: value(nanoCores) }),
    ...pressure(stats.pressure.cpu),
  }
}

function memoryUsage({ stats, residentBytes, timeNs }: Sample): Reply<cri.MemoryUsage> | undefined {
  const timestamp = String(timeNs)
  const { memory } = stats
  if (!memory) {
    if (residentBytes === undefined) return
    // Without the memory controller: what the processes have in memory.
    const resident = value(residentBytes)
    return { timestamp, workingSetBytes: resident, usageBytes: resident, rssBytes: resident }
  }
  const limit = memory.maxBytes
  const host = BigInt(totalmem())
  return {
    timestamp,
    workingSetBytes: value(memory.workingSetBytes),
    // Of a container without a limit there is no such figure (as the kubelet's own summary has it).
    ...(limit === undefined || limit > host
      ? {}
      : { availableBytes: value(less(limit, memory.workingSetBytes)) }),
    usageBytes: value(memory.currentBytes),
    rssBytes: value(memory.anonBytes),
    pageFaults: value(memory.pageFaults),
    majorPageFaults: value(memory.majorPageFaults),
    ...pressure(stats.pressure.memory),
  }
}

function ioUsage({ stats, timeNs }: Sample): { io?: Reply<cri.IoUsage> } {
  const { io } = stats.pressure
  return io ? { io: { timestamp: String(timeNs), ...pressure(io) } } : {}
}

function pressure(of: CgroupStats['pressure']['cpu']): { psi?: Reply<cri.PsiStats> } {
  if (!of) return {}
  const data = (line: NonNullable<typeof of>['some']): Reply<cri.PsiData> => ({
    // The kernel counts µs, the CRI ns.
    Total: String(line.totalUs * NS_PER_US),
    Avg10: line.avg10,
    Avg60: line.avg60,
    Avg300: line.avg300,
  })
  return { psi: { Some: data(of.some), ...(of.full ? { Full: data(of.full) } : {}) } }
}

type Stats = readonly Reply<cri.ContainerStats>[]

function sumCpu(of: Stats): Reply<cri.CpuUsage> {
  return {
    timestamp: of[0]?.cpu?.timestamp ?? '0',
    usageCoreNanoSeconds: sum(of.map(({ cpu }) => cpu?.usageCoreNanoSeconds)),
    usageNanoCores: sum(of.map(({ cpu }) => cpu?.usageNanoCores)),
  }
}

function sumMemory(of: Stats): Reply<cri.MemoryUsage> {
  return {
    timestamp: of[0]?.memory?.timestamp ?? '0',
    workingSetBytes: sum(of.map(({ memory }) => memory?.workingSetBytes)),
    usageBytes: sum(of.map(({ memory }) => memory?.usageBytes)),
    rssBytes: sum(of.map(({ memory }) => memory?.rssBytes)),
    pageFaults: sum(of.map(({ memory }) => memory?.pageFaults)),
    majorPageFaults: sum(of.map(({ memory }) => memory?.majorPageFaults)),
  }
}

function sum(of: readonly (Reply<cri.UInt64Value> | null | undefined)[]): Reply<cri.UInt64Value> {
  return value(of.reduce((all, each) => all + BigInt(each?.value ?? 0), 0n))
}

const value = (number: bigint | number): Reply<cri.UInt64Value> => ({ value: String(number) })

const less = (from: bigint, what: bigint): bigint => (from > what ? from - what : 0n)
