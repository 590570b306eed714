import type { Pod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { Encoded, message, Writer } from '../encoded.ts'
import { hasLabels, inParts } from '../filter.ts'
import { statsOfPods } from '../stats.ts'

/** The field of the statistics in each of the answers. */
const STATS = 1

export async function podSandboxStats(
  { node }: Daemon,
  { podSandboxId }: cri.PodSandboxStatsRequest,
): Promise<Encoded> {
  const pod = node.mustPod(podSandboxId)
  const [stats] = await statsOfPods(node, [pod])
  if (stats?.status === 'rejected') throw stats.reason
  const writer = new Writer()
  if (stats) message(writer, STATS, stats.value)
  return new Encoded(writer)
}

export async function listPodSandboxStats(
  daemon: Daemon,
  { filter }: cri.ListPodSandboxStatsRequest,
): Promise<Encoded> {
  return ofAll(daemon, find(daemon, filter))
}

export async function* streamPodSandboxStats(
  daemon: Daemon,
  { filter }: cri.StreamPodSandboxStatsRequest,
): AsyncIterable<Encoded> {
  for (const part of inParts(find(daemon, filter))) yield await ofAll(daemon, part)
}

function find({ node }: Daemon, filter: cri.PodSandboxStatsFilter | null): Pod[] {
  const one = filter?.id ? node.pod(filter.id) : undefined
  const all = filter?.id ? (one ? [one] : []) : [...node.pods.values()]
  return all.filter(
    (pod) => pod.isReady && hasLabels(pod.record.config.labels, filter?.labelSelector ?? {}),
  )
}

/** One that is just stopping does not spoil the list. */
async function ofAll({ node }: Daemon, pods: readonly Pod[]): Promise<Encoded> {
  const writer = new Writer()
  for (const each of await statsOfPods(node, pods))
    if (each.status === 'fulfilled') message(writer, STATS, each.value)
  return new Encoded(writer)
}
