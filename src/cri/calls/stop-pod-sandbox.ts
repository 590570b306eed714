import { stopPod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function stopPodSandbox(
  { node }: Daemon,
  { podSandboxId }: cri.StopPodSandboxRequest,
): Promise<Reply<cri.StopPodSandboxResponse>> {
  await stopPod(node, podSandboxId)
  return {}
}
