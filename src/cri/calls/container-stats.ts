import { Fault } from '../../base/fault.ts'
import type { Container } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { inParts } from '../filter.ts'
import { statsOfContainers } from '../stats.ts'
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
  const [stats] = await statsOfContainers(node, [container])
  if (!stats) throw new Fault('NOT_FOUND', `container ${container.id.slice(0, 12)} has just ended`)
  return { stats }
}

export async function listContainerStats(
  daemon: Daemon,
  { filter }: cri.ListContainerStatsRequest,
): Promise<Reply<cri.ListContainerStatsResponse>> {
  return { stats: await statsOfContainers(daemon.node, find(daemon, filter)) }
}

export async function* streamContainerStats(
  daemon: Daemon,
  { filter }: cri.StreamContainerStatsRequest,
): AsyncIterable<Reply<cri.StreamContainerStatsResponse>> {
  for (const part of inParts(find(daemon, filter)))
    yield { containerStats: await statsOfContainers(daemon.node, part) }
}

const find = (daemon: Daemon, filter: cri.ContainerStatsFilter | null): Container[] =>
  selectContainers(daemon, filter).filter(({ status }) => status.state === 'running')
