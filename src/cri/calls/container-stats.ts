import { Fault } from '../../base/fault.ts'
import type { Container } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { Encoded, Writer } from '../encoded.ts'
import { inParts } from '../filter.ts'
import { statsOfContainers } from '../stats.ts'
import { selectContainers } from './list-containers.ts'

/** The field of the statistics in each of the answers. */
const STATS = 1

export async function statsOfContainer(
  { node }: Daemon,
  { containerId }: cri.ContainerStatsRequest,
): Promise<Encoded> {
  const container = node.mustContainer(containerId)
  if (container.status.state !== 'running') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `container ${container.id.slice(0, 12)} is ${container.status.state}: it uses nothing`,
    )
  }
  const { count, answer } = await ofAll(node, [container])
  if (count === 0)
    throw new Fault('NOT_FOUND', `container ${container.id.slice(0, 12)} has just ended`)
  return answer
}

export async function listContainerStats(
  daemon: Daemon,
  { filter }: cri.ListContainerStatsRequest,
): Promise<Encoded> {
  return (await ofAll(daemon.node, find(daemon, filter))).answer
}

export async function* streamContainerStats(
  daemon: Daemon,
  { filter }: cri.StreamContainerStatsRequest,
): AsyncIterable<Encoded> {
  for (const part of inParts(find(daemon, filter))) yield (await ofAll(daemon.node, part)).answer
}

async function ofAll(
  node: Daemon['node'],
  containers: readonly Container[],
): Promise<{ count: number; answer: Encoded }> {
  const { count, write } = await statsOfContainers(node, containers)
  const writer = new Writer()
  write(writer, STATS)
  return { count, answer: new Encoded(writer) }
}

const find = (daemon: Daemon, filter: cri.ContainerStatsFilter | null): Container[] =>
  selectContainers(daemon, filter).filter(({ status }) => status.state === 'running')
