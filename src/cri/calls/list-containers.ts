import type { Container } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { container, STATES } from '../convert.ts'
import type { Daemon } from '../daemon.ts'
import { hasLabels, inParts } from '../filter.ts'
import type { Reply } from '../wire.ts'

export async function listContainers(
  daemon: Daemon,
  { filter }: cri.ListContainersRequest,
): Promise<Reply<cri.ListContainersResponse>> {
  return { containers: find(daemon, filter).map(container) }
}

export async function* streamContainers(
  daemon: Daemon,
  { filter }: cri.StreamContainersRequest,
): AsyncIterable<Reply<cri.StreamContainersResponse>> {
  for (const part of inParts(find(daemon, filter))) yield { containers: part.map(container) }
}

function find(daemon: Daemon, filter: cri.ContainerFilter | null): Container[] {
  const selected = selectContainers(daemon, filter)
  const state = filter?.state?.state
  return state ? selected.filter(({ status }) => STATES[status.state] === state) : selected
}

/** By id, pod and labels; ids may be cut. */
export function selectContainers(
  { node }: Daemon,
  filter: Pick<cri.ContainerFilter, 'id' | 'podSandboxId' | 'labelSelector'> | null,
): Container[] {
  if (!filter) return [...node.containers.values()]
  const pod = filter.podSandboxId === '' ? undefined : node.pod(filter.podSandboxId)
  if (filter.podSandboxId !== '' && !pod) return []
  const one = filter.id === '' ? undefined : node.container(filter.id)
  const all =
    filter.id !== '' ? (one ? [one] : []) : [...(pod?.containers ?? node.containers).values()]
  return all.filter(
    (each) =>
      (!pod || each.pod === pod) && hasLabels(each.record.config.labels, filter.labelSelector),
  )
}
