import { totalmem } from 'node:os'
import { nowNs } from '../base/clock.ts'
import type { GroupPressure, GroupUsage } from '../kernel/group-usage.ts'
import { type InterfaceCounters, networkCountersOfAll } from '../kernel/netns.ts'
import { podCgroup } from '../pod/cgroup.ts'
import { writableLayerUsage } from '../pod/images.ts'
import type { Container, Node, Pod } from '../pod/index.ts'
import { POD_INTERFACE } from '../pod/network-request.ts'
import { type Sample, type Samples, sampleAll } from '../pod/stats.ts'
import { fraction, message, pairs, text, time, Writer, whole, written } from './encoded.ts'

const NS_PER_US = 1000

interface LookAt {
  readonly container: Container
  /** As it is at the beginning: a container that has ended has none. */
  readonly cgroup: string
}

interface Sampled {
  readonly container: Container
  readonly now: Sample
}

/** What containers use, each written as a ContainerStats. */
export interface ContainerStats {
  readonly count: number
  /** As the messages of a repeated field. */
  write(writer: Writer, field: number): void
}

/** What these running containers use. A cgroup that is just going away is no error: its figures are missing. */
export async function statsOfContainers(
  node: Node,
  containers: readonly Container[],
): Promise<ContainerStats> {
  const looks = containers.map((container) => ({ container, cgroup: container.cgroup }))
  const samples = await sampleAll(node.rates, cgroupsOf(looks))
  const all = sampled(looks, samples)
  return {
    count: all.length,
    write: (writer, field) => {
      for (const each of all) message(writer, field, () => containerStats(writer, node, each))
    },
  }
}

const cgroupsOf = (looks: readonly LookAt[]): string[] =>
  looks.flatMap(({ cgroup }) => (cgroup === '' ? [] : [cgroup]))

/** Without those that have ended. */
const sampled = (looks: readonly LookAt[], samples: Samples): Sampled[] =>
  looks.flatMap(({ container, cgroup }) => {
    const now = samples.get(cgroup)
    return now ? [{ container, now }] : []
  })

/** What the host cannot tell is missing, never 0. */
function containerStats(writer: Writer, node: Node, { container, now }: Sampled): void {
  const layer = writableLayerUsage(node.engine, node.at.upper(container.pod.id, container.id))
  written(writer, 1, attributesOf(container.record))
  cpuUsage(writer, 2, now)
  memoryUsage(writer, 3, now)
  if (layer) {
    message(writer, 4, () => {
      time(writer, 1, layer.timestampNs)
      message(writer, 2, () => text(writer, 1, node.engine.root))
      value(writer, 3, layer.bytes)
      value(writer, 4, layer.inodes)
    })
  }
  swapUsage(writer, 5, now)
  ioUsage(writer, 6, now)
}

/** What pods use: by its own cgroup where one has it, else the sum of its containers. Each is a PodSandboxStats; one that is just stopping is a failure. */
export async function statsOfPods(
  node: Node,
  pods: readonly Pod[],
): Promise<PromiseSettledResult<(writer: Writer) => void>[]> {
  const all = pods.map((pod) => ({
    pod,
    cgroup: podCgroup(pod),
    running: [...pod.containers.values()]
      .filter(({ status }) => status.state === 'running')
      .map((container) => ({ container, cgroup: container.cgroup })),
  }))
  const cgroups = all.flatMap(({ cgroup, running }) => [cgroup ?? [], cgroupsOf(running)].flat())
  const networks = networkUsages(pods)
  // Told below, where it fails.
  networks.catch(() => {})
  const samples = await sampleAll(node.rates, [...new Set(cgroups)])
  const usages = await networks
  return all.map((each) => {
    const network = usages.get(each.pod)
    if (network instanceof Error) return { status: 'rejected', reason: network }
    return { status: 'fulfilled', value: podStats(node, each, samples, network) }
  })
}

function podStats(
  node: Node,
  of: { readonly pod: Pod; readonly cgroup: string | undefined; readonly running: LookAt[] },
  samples: Samples,
  network: NetworkUsage | undefined,
): (writer: Writer) => void {
  const { pod, cgroup } = of
  const running = sampled(of.running, samples)
  const now = cgroup === undefined ? undefined : samples.get(cgroup)
  const timeNs = now?.timeNs ?? running[0]?.now.timeNs ?? 0n
  return (writer) => {
    written(writer, 1, attributesOf(pod.record))
    message(writer, 2, () => {
      if (now) {
        cpuUsage(writer, 1, now)
        memoryUsage(writer, 2, now)
      } else {
        sumCpu(writer, 1, running)
        sumMemory(writer, 2, running)
      }
      if (network) networkUsage(writer, 3, network)
      message(writer, 4, () => {
        time(writer, 1, timeNs)
        value(writer, 2, now?.processes ?? sum(running, (each) => each.processes))
      })
      for (const each of running) message(writer, 5, () => containerStats(writer, node, each))
      if (now) ioUsage(writer, 6, now)
    })
  }
}

type Described = {
  readonly id: string
  readonly config: {
    readonly metadata: {
      readonly name: string
      readonly uid?: string
      readonly namespace?: string
      readonly attempt: number
    } | null
    readonly labels: Readonly<Record<string, string>>
    readonly annotations: Readonly<Record<string, string>>
  }
}

/** Written once for each record. */
const attributes = new WeakMap<Described, Uint8Array>()

/** A PodSandboxAttributes, or a ContainerAttributes: only their metadata differ. */
function attributesOf(record: Described): Uint8Array {
  const known = attributes.get(record)
  if (known) return known
  const { metadata, labels, annotations } = record.config
  const writer = new Writer()
  text(writer, 1, record.id)
  if (metadata) {
    message(writer, 2, () => {
      text(writer, 1, metadata.name)
      if (metadata.uid !== undefined) text(writer, 2, metadata.uid)
      if (metadata.namespace !== undefined) text(writer, 3, metadata.namespace)
      whole(writer, metadata.uid === undefined ? 2 : 4, metadata.attempt)
    })
  }
  pairs(writer, 3, labels)
  pairs(writer, 4, annotations)
  // Not part of one of Node's larger buffers, all of which it would keep.
  const bytes = new Uint8Array(writer.finish())
  attributes.set(record, bytes)
  return bytes
}

interface NetworkUsage {
  readonly timeNs: bigint
  readonly interfaces: readonly InterfaceCounters[]
}

/** Of the pods' own networks, or why not; none of those that have the host's. */
async function networkUsages(
  pods: readonly Pod[],
): Promise<ReadonlyMap<Pod, NetworkUsage | Error>> {
  const own = pods.flatMap((pod) =>
    pod.held.network === undefined ? [] : [{ pod, path: pod.held.network }],
  )
  if (own.length === 0) return new Map()
  const found = await networkCountersOfAll(own.map(({ path }) => path))
  const timeNs = nowNs()
  return new Map(
    own.map(({ pod }, i) => {
      const interfaces = found[i] ?? []
      return [pod, interfaces instanceof Error ? interfaces : { timeNs, interfaces }]
    }),
  )
}

function networkUsage(writer: Writer, field: number, { timeNs, interfaces }: NetworkUsage): void {
  // With the loopback: the kubelet's summary has to list some beside the default one.
  const isDefault = ({ name }: InterfaceCounters): boolean => name === POD_INTERFACE
  message(writer, field, () => {
    time(writer, 1, timeNs)
    for (const each of interfaces) interfaceUsage(writer, isDefault(each) ? 2 : 3, each)
  })
}

function interfaceUsage(writer: Writer, field: number, of: InterfaceCounters): void {
  message(writer, field, () => {
    text(writer, 1, of.name)
    value(writer, 2, Number(of.received.bytes))
    value(writer, 3, Number(of.received.errors))
    value(writer, 4, Number(of.sent.bytes))
    value(writer, 5, Number(of.sent.errors))
  })
}

function cpuUsage(writer: Writer, field: number, { usage, nanoCores, timeNs }: Sample): void {
  const { cpuUs } = usage
  if (cpuUs === undefined) return
  message(writer, field, () => {
    time(writer, 1, timeNs)
    value(writer, 2, cpuUs * NS_PER_US)
    if (nanoCores !== undefined) value(writer, 3, nanoCores)
    pressure(writer, 4, usage, 'cpu')
  })
}

const workingSet = ({ memoryBytes = 0, inactiveFileBytes }: GroupUsage): number =>
  less(memoryBytes, inactiveFileBytes)

function memoryUsage(writer: Writer, field: number, now: Sample): void {
  const { usage, residentBytes, timeNs } = now
  const { memoryBytes, memoryLimitBytes } = usage
  if (memoryBytes === undefined && residentBytes === undefined) return
  message(writer, field, () => {
    time(writer, 1, timeNs)
    if (memoryBytes === undefined) {
      // Without the memory controller: what the processes have in memory.
      for (const each of [2, 4, 5]) value(writer, each, residentBytes ?? 0)
      return
    }
    value(writer, 2, workingSet(usage))
    // Of a container without a limit there is no such figure (as the kubelet's own summary has it).
    if (memoryLimitBytes !== undefined && memoryLimitBytes <= totalmem())
      value(writer, 3, less(memoryLimitBytes, workingSet(usage)))
    value(writer, 4, memoryBytes)
    value(writer, 5, usage.anonBytes)
    value(writer, 6, usage.pageFaults)
    value(writer, 7, usage.majorPageFaults)
    pressure(writer, 8, usage, 'memory')
  })
}

function swapUsage(writer: Writer, field: number, { usage, timeNs }: Sample): void {
  const { swapBytes, swapLimitBytes } = usage
  if (swapBytes === undefined) return
  message(writer, field, () => {
    time(writer, 1, timeNs)
    if (swapLimitBytes !== undefined) value(writer, 2, less(swapLimitBytes, swapBytes))
    value(writer, 3, swapBytes)
  })
}

function ioUsage(writer: Writer, field: number, { usage, timeNs }: Sample): void {
  if (!usage.some('io')) return
  message(writer, field, () => {
    time(writer, 1, timeNs)
    pressure(writer, 2, usage, 'io')
  })
}

function pressure(
  writer: Writer,
  field: number,
  usage: GroupUsage,
  of: 'cpu' | 'memory' | 'io',
): void {
  const some = usage.some(of)
  if (!some) return
  const full = usage.full(of)
  message(writer, field, () => {
    if (full) pressureData(writer, 1, full)
    pressureData(writer, 2, some)
  })
}

function pressureData(writer: Writer, field: number, of: GroupPressure): void {
  message(writer, field, () => {
    // The kernel counts µs, the CRI ns.
    whole(writer, 1, of.totalUs * NS_PER_US)
    fraction(writer, 2, of.avg10)
    fraction(writer, 3, of.avg60)
    fraction(writer, 4, of.avg300)
  })
}

function sumCpu(writer: Writer, field: number, of: readonly Sampled[]): void {
  message(writer, field, () => {
    time(writer, 1, of[0]?.now.timeNs ?? 0n)
    value(writer, 2, sum(of, ({ usage }) => usage.cpuUs) * NS_PER_US)
    value(
      writer,
      3,
      sum(of, ({ nanoCores }) => nanoCores),
    )
  })
}

function sumMemory(writer: Writer, field: number, of: readonly Sampled[]): void {
  const all = (get: (usage: GroupUsage) => number | undefined): number =>
    sum(of, ({ usage, residentBytes }) =>
      usage.memoryBytes === undefined ? residentBytes : get(usage),
    )
  message(writer, field, () => {
    time(writer, 1, of[0]?.now.timeNs ?? 0n)
    value(writer, 2, all(workingSet))
    value(
      writer,
      4,
      all(({ memoryBytes }) => memoryBytes),
    )
    value(
      writer,
      5,
      all(({ anonBytes }) => anonBytes),
    )
    value(
      writer,
      6,
      sum(of, ({ usage }) => usage.pageFaults),
    )
    value(
      writer,
      7,
      sum(of, ({ usage }) => usage.majorPageFaults),
    )
  })
}

function sum(of: readonly Sampled[], get: (now: Sample) => number | undefined): number {
  return of.reduce((all, { now }) => all + (get(now) ?? 0), 0)
}

/** A UInt64Value. */
function value(writer: Writer, field: number, number: number): void {
  message(writer, field, () => whole(writer, 1, number))
}

const less = (from: number, what: number): number => Math.max(from - what, 0)
