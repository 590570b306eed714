import { readFileSync, statSync } from 'node:fs'
import { nowNs } from '../base/clock.ts'
import { isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import {
  type CgroupStats,
  type CpuStats,
  groupStats,
  type IoStats,
  readMemoryEvents,
} from '../cgroup/index.ts'
import { groupPids } from '../engine/processes.ts'
import { splitDevice } from '../engine/resources.ts'
import { type InterfaceCounters, networkCounters } from '../kernel/netns.ts'
import { podCgroup } from '../pod/cgroup.ts'
import {
  type DeviceUsage,
  deviceUsage,
  type LayerUsage,
  layersMeasured,
  writableLayerUsage,
} from '../pod/images.ts'
import type { Container, Node, Pod } from '../pod/index.ts'
import { mountOf } from '../pod/mount-source.ts'
import { openFiles, openFilesLimit, type ProcessUsage, processUsage } from '../pod/process-usage.ts'
import type { LinuxContainerResources } from '../spec/cri.ts'

/** Writable layers that were never measured are waited for so long, all together; a scraper waits 10 s. */
const FIRST_LAYERS_MS = 2000

/** What is known of a container or a pod at one moment. What the host cannot tell, or does not tell of a pod, is missing. */
export interface Figures {
  readonly seenNs: bigint
  readonly cpu?: CpuStats | undefined
  readonly memory?: MemoryFigures | undefined
  readonly hugepages?: readonly HugepageFigures[] | undefined
  readonly pressure?: CgroupStats['pressure'] | undefined
  readonly io?: readonly (IoStats & { readonly device: string })[] | undefined
  readonly network?: readonly InterfaceCounters[] | undefined
  readonly processes?: ProcessFigures | undefined
  readonly filesystem?: FilesystemFigures | undefined
  readonly resources?: LinuxContainerResources | undefined
  readonly startedNs?: bigint | undefined
}

/** In bytes, and counts. */
export interface MemoryFigures {
  readonly usage: bigint
  readonly workingSet: bigint
  readonly peak: bigint
  readonly anon: bigint
  readonly file: bigint
  readonly mapped: bigint
  readonly kernel: bigint
  readonly swap: bigint
  readonly limitHits: bigint
  readonly oomKills: bigint
  readonly faults: bigint
  readonly majorFaults: bigint
  /** The one in force: what was asked for, rounded by the kernel to pages. Undefined for none. */
  readonly limit: bigint | undefined
}

export interface HugepageFigures {
  readonly pageSize: string
  readonly currentBytes: bigint
  readonly peakBytes: bigint
}

export interface ProcessFigures {
  readonly count: bigint
  readonly threads: bigint
  /** 0 for no limit. */
  readonly threadsMax: bigint
  readonly descriptors: bigint
  readonly sockets: bigint
  readonly openFilesLimit: bigint | undefined
}

export interface FilesystemFigures {
  readonly device: string
  readonly usage: DeviceUsage
  /** Undefined before it was measured for the first time. */
  readonly layer: LayerUsage | undefined
}

/** One look at the node: what is the same for all its containers is read once. */
export interface Look {
  readonly node: Node
  readonly device: string
  readonly usage: DeviceUsage
  readonly deviceNames: Map<string, string>
}

export async function look(node: Node, containers: readonly Container[]): Promise<Look> {
  const uppers = containers.map((each) => upperOf(node, each))
  await layersMeasured(node.engine, uppers, FIRST_LAYERS_MS)
  const { root } = node.engine
  return {
    node,
    device: filesystemDevice(root),
    usage: await deviceUsage(node.engine),
    deviceNames: new Map(),
  }
}

/** Of a running container; undefined where its cgroup is just going away. */
export function containerFigures(at: Look, container: Container): Figures | undefined {
  const { cgroup, record, status } = container
  const seenNs = nowNs()
  const stats = groupStats(cgroup)
  if (cgroup === '' || stats.cpu === undefined) return
  const pids = groupPids(cgroup)
  const memory = ofController(container, cgroup, stats)
  const used = memory && stats.pids ? undefined : processUsage(pids)
  return {
    seenNs,
    ...ofGroup(at, container, stats),
    memory: memory ?? (used && ofProcesses(container, used)),
    processes: {
      count: BigInt(pids.length),
      // The controller counts threads.
      threads: stats.pids?.current ?? used?.threads ?? 0n,
      // Without the controller nothing limits them.
      threadsMax: stats.pids?.max ?? 0n,
      ...openFiles(pids),
      openFilesLimit: openFilesLimit(status.pid),
    },
    filesystem: {
      device: at.device,
      usage: at.usage,
      layer: writableLayerUsage(at.node.engine, upperOf(at.node, container)),
    },
    resources: record.resources,
    startedNs: BigInt(status.startedNs),
  }
}

/** Of a pod as a whole: its network, and its cgroup where it has one of its own. What only /proc tells, its containers tell. */
export async function podFigures(at: Look, pod: Pod): Promise<Figures> {
  const path = pod.held.network
  const network = path === undefined ? undefined : await networkCounters(path)
  const cgroup = podCgroup(pod)
  const stats = cgroup === undefined ? undefined : groupStats(cgroup)
  return {
    seenNs: nowNs(),
    network: network?.filter(({ name }) => name !== 'lo'),
    ...(cgroup !== undefined && stats
      ? { ...ofGroup(at, pod, stats), memory: ofController(pod, cgroup, stats) }
      : {}),
  }
}

const upperOf = (node: Node, { pod, id }: Container): string => node.at.upper(pod.id, id)

function ofGroup(at: Look, owner: object, { cpu, pressure, io, hugepages }: CgroupStats) {
  return {
    cpu,
    pressure,
    io: io?.map((each) => ({ ...each, device: nameOf(at, each) })),
    hugepages: hugepages.map(({ pageSize, currentBytes }) => ({
      pageSize,
      currentBytes,
      // Version 2 of cgroups keeps no record of it.
      peakBytes: highest(owner, `hugepages ${pageSize}`, currentBytes),
    })),
  }
}

function ofController(
  owner: object,
  cgroup: string,
  { memory }: CgroupStats,
): MemoryFigures | undefined {
  if (!memory) return
  const events = readMemoryEvents(cgroup)
  const of = (key: string): bigint => memory.all.get(key) ?? 0n
  return {
    usage: memory.currentBytes,
    workingSet: memory.workingSetBytes,
    // Before Linux 5.19 the kernel keeps no record of it.
    peak: memory.peakBytes ?? highest(owner, 'memory', memory.currentBytes),
    anon: memory.anonBytes,
    file: memory.fileBytes,
    mapped: of('file_mapped'),
    // The sum is there since Linux 5.18.
    kernel: memory.all.has('kernel')
      ? memory.kernelBytes
      : of('kernel_stack') + of('pagetables') + of('percpu') + of('sock') + of('slab'),
    swap: memory.swapCurrentBytes ?? 0n,
    limitHits: BigInt(events?.max ?? 0),
    oomKills: BigInt(events?.oomKill ?? 0),
    faults: memory.pageFaults,
    majorFaults: memory.majorPageFaults,
    limit: memory.maxBytes,
  }
}

/**
 * Without the memory controller, by what the processes have in memory: page cache that nobody has mapped is not known, nor the kernel's memory
 * but for page tables. No limit is in force there, so none was reached and nobody was killed for it.
 */
function ofProcesses(owner: object, used: ProcessUsage): MemoryFigures {
  const usage = used.anonBytes + used.fileBytes
  return {
    usage,
    workingSet: usage,
    peak: highest(owner, 'memory', usage),
    anon: used.anonBytes,
    file: used.fileBytes,
    mapped: used.fileBytes,
    kernel: used.pageTableBytes,
    swap: used.swapBytes,
    limitHits: 0n,
    oomKills: 0n,
    // Those of a process that the container has not waited for are lost with it: a counter that went back would look like a new start.
    faults: highest(owner, 'faults', used.pageFaults),
    majorFaults: highest(owner, 'major faults', used.majorPageFaults),
    limit: undefined,
  }
}

const highestSeen = new WeakMap<object, Map<string, bigint>>()

/** The largest value so far of this of a container or pod. */
function highest(owner: object, what: string, value: bigint): bigint {
  const seen = highestSeen.get(owner) ?? new Map<string, bigint>()
  highestSeen.set(owner, seen)
  const before = seen.get(what) ?? 0n
  if (value <= before) return before
  seen.set(what, value)
  return value
}

/** What the file system of a directory is mounted from, such as /dev/sda1. */
function filesystemDevice(directory: string): string {
  const source = mountOf(directory, readFileSync('/proc/self/mountinfo', 'utf8'))?.source
  if (source?.startsWith('/dev/')) return source
  return deviceName(splitDevice(statSync(directory).dev))
}

function nameOf({ deviceNames }: Look, number: { major: number; minor: number }): string {
  const key = `${number.major}:${number.minor}`
  const known = deviceNames.get(key) ?? deviceName(number)
  deviceNames.set(key, known)
  return known
}

/** A block device's path, or its number where it has none. */
function deviceName({ major, minor }: { major: number; minor: number }): string {
  const number = `${major}:${minor}`
  try {
    const text = readFileIfAny(`/sys/dev/block/${number}/uevent`)
    const [, name] = /^DEVNAME=(.+)$/m.exec(text ?? '') ?? []
    return name === undefined ? number : `/dev/${name}`
  } catch (error) {
    // Pulled out just now.
    if (isErrno(error, 'ENODEV')) return number
    throw error
  }
}
