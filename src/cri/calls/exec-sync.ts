import { execSync } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { numberOf } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function exec(
  { node }: Daemon,
  { containerId, cmd, timeout }: cri.ExecSyncRequest,
): Promise<Reply<cri.ExecSyncResponse>> {
  const seconds = Math.max(0, numberOf('timeout', timeout))
  const { stdout, stderr, code } = await execSync(node, containerId, cmd, seconds * 1000)
  return { stdout, stderr, exitCode: code }
}
