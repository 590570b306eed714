import type { Pod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { podSandbox } from '../convert.ts'
import type { Daemon } from '../daemon.ts'
import { hasLabels, inParts } from '../filter.ts'
import type { Reply } from '../wire.ts'

export async function listPodSandbox(
  daemon: Daemon,
  { filter }: cri.ListPodSandboxRequest,
): Promise<Reply<cri.ListPodSandboxResponse>> {
  return { items: find(daemon, filter).map(podSandbox) }
}

export async function* streamPodSandboxes(
  daemon: Daemon,
  { filter }: cri.StreamPodSandboxesRequest,
): AsyncIterable<Reply<cri.StreamPodSandboxesResponse>> {
  for (const part of inParts(find(daemon, filter))) yield { podSandboxes: part.map(podSandbox) }
}

function find({ node }: Daemon, filter: cri.PodSandboxFilter | null): Pod[] {
  if (filter?.id) {
    const pod = node.pod(filter.id)
    return pod && matches(pod, filter) ? [pod] : []
  }
  const all = [...node.pods.values()]
  return filter ? all.filter((pod) => matches(pod, filter)) : all
}

function matches(pod: Pod, { state, labelSelector }: cri.PodSandboxFilter): boolean {
  if (state && pod.isReady !== (state.state === 'SANDBOX_READY')) return false
  return hasLabels(pod.record.config.labels, labelSelector)
}
