import { mustRun } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'
import { checkStreams } from './exec.ts'

export async function attachUrl(
  { node, streams }: Daemon,
  request: cri.AttachRequest,
): Promise<Reply<cri.AttachResponse>> {
  const container = node.mustContainer(request.containerId)
  mustRun(container)
  checkStreams(request)
  const { stdin, stdout, stderr, tty } = request
  const url = streams.url({
    kind: 'attach',
    target: container.id,
    stdin,
    stdout,
    stderr,
    terminal: tty,
  })
  return { url }
}
