import type { Pod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { hasLabels, inParts } from '../filter.ts'
import { statsOfPods } from '../stats.ts'
import type { Reply } from '../wire.ts'

export async function podSandboxStats(
  { node }: Daemon,
  { podSandboxId }: cri.PodSandboxStatsRequest,
): Promise<Reply<cri.PodSandboxStatsResponse>> {
  const pod = node.mustPod(podSandboxId)
  const [stats] = await statsOfPods(node, [pod])
  if (stats?.status === 'rejected') throw stats.reason
  return { stats: stats?.value }
}

export async function listPodSandboxStats(
  daemon: Daemon,
  { filter }: cri.ListPodSandboxStatsRequest,
): Promise<Reply<cri.ListPodSandboxStatsResponse>> {
  return { stats: await ofAll(daemon, find(daemon, filter)) }
}

export async function* streamPodSandboxStats(
  daemon: Daemon,
  { filter }: cri.StreamPodSandboxStatsRequest,
): AsyncIterable<Reply<cri.StreamPodSandboxStatsResponse>> {
  for (const part of inParts(find(daemon, filter)))
    yield { podSandboxStats: await ofAll(daemon, part) }
}

function find({ node }: Daemon, filter: cri.PodSandboxStatsFilter | null): Pod[] {
  const one = filter?.id ? node.pod(filter.id) : undefined
  const all = filter?.id ? (one ? [one] : []) : [...node.pods.values()]
  return all.filter(
    (pod) => pod.isReady && hasLabels(pod.record.config.labels, filter?.labelSelector ?? {}),
  )
}

/** One that is just stopping does not spoil the list. */
async function ofAll(
  { node }: Daemon,
  pods: readonly Pod[],
): Promise<Reply<cri.PodSandboxStats>[]> {
  const all = await statsOfPods(node, pods)
  return all.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
}
