import { Fault } from '../../base/fault.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function portForwardUrl(
  { node, streams }: Daemon,
  { podSandboxId, port }: cri.PortForwardRequest,
): Promise<Reply<cri.PortForwardResponse>> {
  const pod = node.mustPod(podSandboxId)
  if (!pod.isReady)
    throw new Fault('FAILED_PRECONDITION', `pod ${pod.id.slice(0, 12)} is not ready`)
  for (const each of port) {
    if (each < 1 || each > 65535)
      throw new Fault('INVALID_ARGUMENT', `port ${each} is out of the range 1 to 65535`)
  }
  return { url: streams.url({ kind: 'portforward', target: pod.id, ports: port }) }
}
