import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

/**
 * The kubelet has changed, or is about to change, the pod's cgroup, which is its own: there is nothing to do here. Any error but UNIMPLEMENTED would have it
 * refuse the pod's resize.
 */
export async function updatePodSandboxResources(
  { node }: Daemon,
  { podSandboxId }: cri.UpdatePodSandboxResourcesRequest,
): Promise<Reply<cri.UpdatePodSandboxResourcesResponse>> {
  node.mustPod(podSandboxId)
  return {}
}
