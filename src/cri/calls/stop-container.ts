import { stopContainer } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { numberOf } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function stop(
  { node }: Daemon,
  { containerId, timeout }: cri.StopContainerRequest,
): Promise<Reply<cri.StopContainerResponse>> {
  await stopContainer(node, containerId, Math.max(0, numberOf('timeout', timeout)))
  return {}
}
