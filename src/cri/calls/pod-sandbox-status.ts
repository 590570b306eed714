import type * as cri from '../../spec/cri.ts'
import { containerStatuses, handlerName, podSandboxStatus } from '../convert.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function sandboxStatus(
  { node }: Daemon,
  { podSandboxId, verbose }: cri.PodSandboxStatusRequest,
): Promise<Reply<cri.PodSandboxStatusResponse>> {
  const pod = node.mustPod(podSandboxId)
  const { record } = pod
  const info = {
    config: record.config,
    runtimeHandler: handlerName(pod),
    cgroupParent: record.cgroupParent,
    namespaces: pod.held,
    directory: node.at.pod(pod.id),
    monitorDirectory: node.at.monitor(pod.id),
  }
  return {
    status: podSandboxStatus(pod),
    info: verbose ? { info: JSON.stringify(info) } : {},
    containersStatuses: containerStatuses(pod),
    timestamp: pod.changedNs,
  }
}
