import type { Stage } from '../../base/stage.ts'
import { runPod } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { missing } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function runPodSandbox(
  { node }: Daemon,
  { config, runtimeHandler }: cri.RunPodSandboxRequest,
  _signal: AbortSignal,
  stage: Stage,
): Promise<Reply<cri.RunPodSandboxResponse>> {
  if (!config) throw missing('config')
  return { podSandboxId: await runPod(node, config, runtimeHandler, stage) }
}
