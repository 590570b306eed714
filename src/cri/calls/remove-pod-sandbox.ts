import type { Stage } from '../../base/stage.ts'
import { removePod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function removePodSandbox(
  { node }: Daemon,
  { podSandboxId }: cri.RemovePodSandboxRequest,
  _signal: AbortSignal,
  stage: Stage,
): Promise<Reply<cri.RemovePodSandboxResponse>> {
  await removePod(node, podSandboxId, stage)
  return {}
}
