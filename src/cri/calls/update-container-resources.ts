import { updateContainer } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { missing } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function updateContainerResources(
  { node }: Daemon,
  { containerId, linux }: cri.UpdateContainerResourcesRequest,
): Promise<Reply<cri.UpdateContainerResourcesResponse>> {
  if (!linux) throw missing('linux')
  await updateContainer(node, containerId, linux)
  return {}
}
