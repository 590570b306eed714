import { Fault } from '../../base/fault.ts'
import { mustRun } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

/** The address at which the client finds the program's stdio; it is executed when the client comes there. */
export async function execUrl(
  { node, streams }: Daemon,
  request: cri.ExecRequest,
): Promise<Reply<cri.ExecResponse>> {
  const container = node.mustContainer(request.containerId)
  mustRun(container)
  checkStreams(request)
  if (request.cmd.length === 0) throw new Fault('INVALID_ARGUMENT', 'cmd names no program')
  const { cmd, stdin, stdout, stderr, tty } = request
  const url = streams.url({
    kind: 'exec',
    target: container.id,
    command: cmd,
    stdin,
    stdout,
    stderr,
    terminal: tty,
  })
  return { url }
}

export function checkStreams(
  request: Pick<cri.ExecRequest, 'stdin' | 'stdout' | 'stderr' | 'tty'>,
): void {
  const { stdin, stdout, stderr, tty } = request
  if (tty && stderr)
    throw new Fault(
      'INVALID_ARGUMENT',
      'tty and stderr go not together: a terminal carries both outputs',
    )
  if (!stdin && !stdout && !stderr)
    throw new Fault('INVALID_ARGUMENT', 'none of stdin, stdout and stderr is asked for')
}
