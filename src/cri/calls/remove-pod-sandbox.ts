import { removePod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function removePodSandbox(
  { node }: Daemon,
  { podSandboxId }: cri.RemovePodSandboxRequest,
): Promise<Reply<cri.RemovePodSandboxResponse>> {
  await removePod(node, podSandboxId)
  return {}
}
