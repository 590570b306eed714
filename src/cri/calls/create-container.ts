import { createContainer } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { missing } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

/** The pod's configuration comes again with the request; what counts is the one that the pod was made with. */
export async function create(
  { node }: Daemon,
  { podSandboxId, config }: cri.CreateContainerRequest,
): Promise<Reply<cri.CreateContainerResponse>> {
  if (!config) throw missing('config')
  return { containerId: await createContainer(node, podSandboxId, config) }
}
