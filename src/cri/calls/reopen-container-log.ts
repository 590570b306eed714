import { reopenLog } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function reopenContainerLog(
  { node }: Daemon,
  { containerId }: cri.ReopenContainerLogRequest,
): Promise<Reply<cri.ReopenContainerLogResponse>> {
  await reopenLog(node, containerId)
  return {}
}
