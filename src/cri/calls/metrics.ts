import { setImmediate } from 'node:timers/promises'
import { describe } from '../../base/fault.ts'
import { cgroupHost } from '../../cgroup/index.ts'
import type { Container, Pod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { inParts } from '../filter.ts'
import { BASE_LABELS, baseLabels, MEASURED_BEFORE, METRICS } from '../metric-table.ts'
import { containerFigures, type Figures, type Look, look, podFigures } from '../metric-values.ts'
import type { Reply } from '../wire.ts'

export async function listMetricDescriptors(): Promise<Reply<cri.ListMetricDescriptorsResponse>> {
  return {
    descriptors: METRICS.map(({ name, help, labels }) => ({
      name,
      help,
      labelKeys: [...BASE_LABELS, ...labels],
    })),
  }
}

export async function listPodSandboxMetrics(
  daemon: Daemon,
): Promise<Reply<cri.ListPodSandboxMetricsResponse>> {
  const podMetrics: Reply<cri.PodSandboxMetrics>[] = []
  for await (const each of ofAll(daemon, find(daemon))) podMetrics.push(each)
  return { podMetrics }
}

export async function* streamPodSandboxMetrics(
  daemon: Daemon,
): AsyncIterable<Reply<cri.StreamPodSandboxMetricsResponse>> {
  for (const part of inParts(find(daemon))) {
    const podSandboxMetrics: Reply<cri.PodSandboxMetrics>[] = []
    for await (const each of ofAll(daemon, part)) podSandboxMetrics.push(each)
    if (podSandboxMetrics.length > 0) yield { podSandboxMetrics }
  }
}

const find = ({ node }: Daemon): Pod[] => [...node.pods.values()].filter((pod) => pod.isReady)

const running = (pod: Pod): Container[] =>
  [...pod.containers.values()].filter(({ status }) => status.state === 'running')

/** One pod after the other, with room between them for other calls. One that is just stopping does not spoil the list. */
async function* ofAll(
  { node }: Daemon,
  pods: readonly Pod[],
): AsyncIterable<Reply<cri.PodSandboxMetrics>> {
  const at = await look(node, pods.flatMap(running))
  for (const pod of pods) {
    await setImmediate()
    if (!pod.isReady) continue
    try {
      yield await ofPod(at, pod)
    } catch (error) {
      if (pod.isReady) node.warn(`metrics of pod ${pod.id.slice(0, 12)}: ${describe(error)}`)
    }
  }
}

async function ofPod(at: Look, pod: Pod): Promise<Reply<cri.PodSandboxMetrics>> {
  const { config, cgroupParent } = pod.record
  const { name = '', namespace = '' } = config.metadata ?? {}
  const both = { pod: name, namespace }
  const own = baseLabels({ ...both, id: cgroupParent, name: pod.id, image: '', container: '' })
  const metrics = values(await podFigures(at, pod), own)
  const containerMetrics = running(pod).flatMap((container) => {
    const { record, cgroup } = container
    const figures = containerFigures(at, container)
    if (!figures) return []
    const labels = baseLabels({
      ...both,
      id: cgroup.slice(cgroupHost().root.length),
      name: container.id,
      image: record.imageRef,
      container: record.config.metadata?.name ?? '',
    })
    return [{ containerId: container.id, metrics: values(figures, labels) }]
  })
  return { podSandboxId: pod.id, metrics, containerMetrics }
}

function values(figures: Figures, base: readonly string[]): Reply<cri.Metric>[] {
  return METRICS.flatMap((row) =>
    row.values(figures).map(([value, ...labels]) => ({
      name: row.name,
      // Told as of now; what was measured before says when.
      timestamp: MEASURED_BEFORE.has(row.name) ? layerTime(figures) : '0',
      metricType: row.type,
      labelValues: [...base, ...labels],
      value: { value: String(value) },
    })),
  )
}

const layerTime = ({ filesystem }: Figures): string => String(filesystem?.layer?.timestampNs ?? 0)
