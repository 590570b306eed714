import { startContainer } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function start(
  { node }: Daemon,
  { containerId }: cri.StartContainerRequest,
): Promise<Reply<cri.StartContainerResponse>> {
  await startContainer(node, containerId)
  return {}
}
