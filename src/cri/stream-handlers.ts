import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { connectInside } from '../kernel/netns.ts'
import { attachContainer, execContainer, type Node } from '../pod/index.ts'
import type { Handlers } from '../stream/index.ts'
import type { Log } from './log.ts'

/** Where servers inside a pod listen that are meant for port-forward: IPv4 first, as kubectl's users expect. */
const LOOPBACKS = ['127.0.0.1', '::1'] as const

/** On a loopback nobody needs longer. */
const CONNECT_MS = 10_000

/** What stands behind the streaming server's addresses. */
export function streamHandlers(node: Node, log: Log): Handlers {
  /** The call that gave the address was a good one: without a line here nothing would tell why its stream came to nothing. */
  async function told<T>(method: string, subject: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (error) {
      log.warn('stream', { method, subject, error: describe(error) })
      throw error
    }
  }
  const handlers: Handlers = {
    async exec({ target, command, stdin, terminal }) {
      const { session } = await execContainer(node, node.mustContainer(target), {
        command,
        terminal,
        stdin,
        timeoutMs: 0,
      })
      return session
    },
    async attach({ target, stdin, stdout, stderr, terminal }) {
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
  return {
    exec: (request, signal) => told('Exec', request.target, () => handlers.exec(request, signal)),
    attach: (request, signal) =>
      told('Attach', request.target, () => handlers.attach(request, signal)),
    portForward: (request, port, signal) =>
      told('PortForward', request.target, () => handlers.portForward(request, port, signal)),
  }
}

/** A connection to a port on the loopback of the pod's network; of the host's, where the pod has none of its own. */
async function connectInPod(namespace: string | undefined, port: number): Promise<Duplex> {
  const reasons: string[] = []
  for (const host of LOOPBACKS) {
    try {
      return await connected(namespace, host, port)
    } catch (error) {
      // The error's text has the namespace's path of this process, which is nothing to the user.
      const isRefused = isErrno(error, 'ECONNREFUSED')
      reasons.push(`${host}: ${isRefused ? 'connection refused' : describe(error)}`)
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
