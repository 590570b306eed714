import { removeContainer } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function remove(
  { node }: Daemon,
  { containerId }: cri.RemoveContainerRequest,
): Promise<Reply<cri.RemoveContainerResponse>> {
  await removeContainer(node, containerId)
  return {}
}
