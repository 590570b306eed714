import { execSync } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import { numberOf } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

/** The CRI's own bound for what is returned of a stream, and the longest message that the kubelet takes: what is more would be an error there. */
const REPLY_BYTES_MAX = 16 * 1024 * 1024
/** Of the reply, what is not output. */
const REPLY_OVERHEAD = 64

export async function exec(
  { node, configuration }: Daemon,
  { containerId, cmd, timeout }: cri.ExecSyncRequest,
  signal: AbortSignal,
): Promise<Reply<cri.ExecSyncResponse>> {
  const seconds = Math.max(0, numberOf('timeout', timeout))
  const { stdout, stderr, code } = await execSync(node, containerId, cmd, {
    timeoutMs: seconds * 1000,
    bytesMax: Math.min(REPLY_BYTES_MAX, configuration().limits.messageBytes) - REPLY_OVERHEAD,
    signal,
  })
  return { stdout, stderr, exitCode: code }
}
