import { type ContainerExit, connectMonitor } from '../container/monitor.ts'
import type { MonitorSession } from '../container/session.ts'
import { mustRun } from './exec.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'

/** Joins the stdio of a running container's first process. The connection is the session's alone. */
export async function attachContainer(
  node: Node,
  container: Container,
  streams: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean },
): Promise<MonitorSession<ContainerExit>> {
  mustRun(container)
  const monitor = await connectMonitor(node.at.monitor(container.pod.id))
  try {
    return await unlessHung(
      node.at.monitor(container.pod.id),
      monitor.attach(container.id, streams),
    )
  } catch (error) {
    monitor.close()
    throw error
  }
}
