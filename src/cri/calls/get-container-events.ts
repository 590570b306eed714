import type { PodEvent } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { containerStatuses, podSandboxStatus } from '../convert.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

const TYPES = {
  created: 'CONTAINER_CREATED_EVENT',
  started: 'CONTAINER_STARTED_EVENT',
  stopped: 'CONTAINER_STOPPED_EVENT',
  deleted: 'CONTAINER_DELETED_EVENT',
} as const

/** Events from the call on, each with the pod and its containers as they are when it is sent. */
export async function* getContainerEvents(
  { node }: Daemon,
  _request: cri.GetEventsRequest,
  signal: AbortSignal,
): AsyncIterable<Reply<cri.ContainerEventResponse>> {
  for await (const event of node.events.subscribe(signal)) {
    yield { ...base(event), ...stateOf(node, event) }
  }
}

const base = ({ id, type, timeNs }: PodEvent): Reply<cri.ContainerEventResponse> => ({
  containerId: id,
  containerEventType: TYPES[type],
  createdAt: timeNs,
})

function stateOf(node: Daemon['node'], { podId }: PodEvent): Reply<cri.ContainerEventResponse> {
  const pod = node.pods.get(podId)
  // Deleted: the kubelet takes an event without the pod's status for just that.
  if (!pod) return {}
  return {
    podSandboxStatus: podSandboxStatus(pod),
    containersStatuses: containerStatuses(pod),
  }
}
