import type { Stage } from '../../base/stage.ts'
import { stopPod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function stopPodSandbox(
  { node }: Daemon,
  { podSandboxId }: cri.StopPodSandboxRequest,
  _signal: AbortSignal,
  stage: Stage,
): Promise<Reply<cri.StopPodSandboxResponse>> {
  await stopPod(node, podSandboxId, stage)
  return {}
}
