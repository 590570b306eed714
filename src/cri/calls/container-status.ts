import { cgroupHost, notInForce } from '../../cgroup/index.ts'
import { specOf } from '../../pod/index.ts'
import { ociResources } from '../../pod/resources.ts'
import type * as cri from '../../spec/cri.ts'
import { containerStatus } from '../convert.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function statusOfContainer(
  { node }: Daemon,
  { containerId, verbose }: cri.ContainerStatusRequest,
): Promise<Reply<cri.ContainerStatusResponse>> {
  const found = node.mustContainer(containerId)
  const reply = { status: containerStatus(found) }
  if (!verbose) return reply
  const { record, status, pod } = found
  const info = {
    sandboxID: pod.id,
    pid: status.pid,
    removing: found.removing,
    cgroup: found.cgroup,
    config: record.config,
    runtimeSpec: specOf(node, found),
    layers: record.lower,
    notInForce: limitsNotInForce(record.resources),
    directory: node.at.container(pod.id, found.id),
  }
  return { ...reply, info: { info: JSON.stringify(info) } }
}

/** What the container was promised and the host cannot keep, where the daemon is configured to make it all the same (`cgroup.missing`). */
function limitsNotInForce(resources: cri.LinuxContainerResources): string[] {
  const { controllers } = cgroupHost()
  return notInForce(controllers, ociResources('linux.resources', resources, controllers))
}
