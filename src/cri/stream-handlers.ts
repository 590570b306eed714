import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, Fault } from '../base/fault.ts'
import { connectInside } from '../kernel/netns.ts'
import { attachContainer, execContainer, type Node } from '../pod/index.ts'
import type { Handlers } from '../stream/index.ts'

/** Where servers inside a pod listen that are meant for port-forward: IPv4 first, as kubectl's users expect. */
const LOOPBACKS = ['127.0.0.1', '::1'] as const

/** On a loopback nobody needs longer. */
const CONNECT_MS = 10_000

/** What stands behind the streaming server's addresses. */
export function streamHandlers(node: Node): Handlers {
  return {
    async exec({ target, command, stdin, terminal }) {
      const { session } = await execContainer(node, node.mustContainer(target), {
        command,
        terminal,
        stdin,
        timeoutMs: 0,
      })
      return session
    },
    attach({ target, stdin, stdout, stderr, terminal }) {
      return attachContainer(node, node.mustContainer(target), {
        stdin,
        stdout,
        // A terminal's one output is its stdout.
        stderr: stderr && !terminal,
      })
    },
    async portForward({ target }, port) {
      const pod = node.mustPod(target)
      if (!pod.isReady)
        throw new Fault('FAILED_PRECONDITION', `pod ${pod.id.slice(0, 12)} is not ready`)
      return connectInPod(pod.held.network, port)
    },
  }
}

/** A connection to a port on the loopback of the pod's network; of the host's, where the pod has none of its own. */
async function connectInPod(namespace: string | undefined, port: number): Promise<Duplex> {
  const reasons: string[] = []
  for (const host of LOOPBACKS) {
    try {
      return await connected(namespace, host, port)
    } catch (error) {
      reasons.push(`${host}: ${describe(error)}`)
    }
  }
  throw new Fault(
    'UNAVAILABLE',
    `nothing answers on port ${port} of the pod (${reasons.join('; ')})`,
  )
}

async function connected(
  namespace: string | undefined,
  host: string,
  port: number,
): Promise<Duplex> {
  const timeoutMs = CONNECT_MS
  if (namespace !== undefined) return connectInside(namespace, { host, port, timeoutMs })
  const socket = connect({ host, port, allowHalfOpen: true, timeout: timeoutMs })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('it does not answer')))
  })
  socket.setTimeout(0)
  return socket
}
