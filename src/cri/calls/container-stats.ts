import { Fault } from '../../base/fault.ts'
import type { Container } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { inParts } from '../filter.ts'
import { containerStats } from '../stats.ts'
import type { Reply } from '../wire.ts'
import { selectContainers } from './list-containers.ts'

export async function statsOfContainer(
  { node }: Daemon,
  { containerId }: cri.ContainerStatsRequest,
): Promise<Reply<cri.ContainerStatsResponse>> {
  const container = node.mustContainer(containerId)
  if (container.status.state !== 'running') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `container ${container.id.slice(0, 12)} is ${container.status.state}: it uses nothing`,
    )
  }
  return { stats: containerStats(node, container) }
}

export async function listContainerStats(
  daemon: Daemon,
  { filter }: cri.ListContainerStatsRequest,
): Promise<Reply<cri.ListContainerStatsResponse>> {
  return { stats: ofAll(daemon, find(daemon, filter)) }
}

export async function* streamContainerStats(
  daemon: Daemon,
  { filter }: cri.StreamContainerStatsRequest,
): AsyncIterable<Reply<cri.StreamContainerStatsResponse>> {
  for (const part of inParts(find(daemon, filter))) yield { containerStats: ofAll(daemon, part) }
}

const find = (daemon: Daemon, filter: cri.ContainerStatsFilter | null): Container[] =>
  selectContainers(daemon, filter).filter(({ status }) => status.state === 'running')

/** A cgroup that is just going away is no error: its figures are missing. */
const ofAll = ({ node }: Daemon, containers: readonly Container[]): Reply<cri.ContainerStats>[] =>
  containers.map((each) => containerStats(node, each))
