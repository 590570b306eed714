/** A streaming server for one claim, and ports to forward to. */
import { connect, createServer, type Server, type Socket } from 'node:net'
import * as assert from 'uvu/assert'
import { Fault } from '../../src/base/fault.ts'
import {
  type ExecRequest,
  type Handlers,
  StreamServer,
  type StreamServerOptions,
} from '../../src/stream/index.ts'
import { eventually } from './eventually.ts'

export const PIPES = { stdin: true, stdout: true, stderr: true, terminal: false }
export const TERMINAL = { stdin: true, stdout: true, stderr: false, terminal: true }

export function exec(command: readonly string[], stdio: Partial<typeof PIPES> = {}): ExecRequest {
  return { kind: 'exec', target: 'box', command, ...PIPES, ...stdio }
}

/** Closed after the claim, which fails if the server had an error of its own to report. */
export async function withServer(
  handlers: Partial<Handlers>,
  act: (server: StreamServer) => Promise<void>,
  options: StreamServerOptions = {},
): Promise<void> {
  const failing = (): never => {
    throw new Fault('UNIMPLEMENTED', 'this test opens nothing of the kind')
  }
  const reports: string[] = []
  const server = await StreamServer.listen(
    { report: (message, error) => reports.push(`${message}: ${error}`), ...options },
    { exec: failing, attach: failing, portForward: failing, ...handlers },
  )
  try {
    await act(server)
  } finally {
    await server.close()
  }
  assert.equal(reports, [])
}

/** Connects to ports of this machine, as the pod's namespace would be. */
export const connects: Partial<Handlers> = {
  portForward: (_, port) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
      socket.once('connect', () => resolve(socket))
      socket.once('error', reject)
    }),
}

export const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

/** One port for each function; fails if a connection is left at the end. */
export async function withPorts(
  serve: readonly ((socket: Socket) => void)[],
  act: (...ports: number[]) => Promise<void>,
): Promise<void> {
  const servers: Server[] = []
  const sockets = new Set<Socket>()
  try {
    for (const each of serve) {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => sockets.delete(socket))
        each(socket)
      })
      servers.push(server)
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    }
    await act(...servers.map((server) => (server.address() as { port: number }).port))
    await eventually('no connection is left at the ports', () => sockets.size === 0)
  } finally {
    for (const socket of sockets) socket.destroy()
    for (const server of servers) server.close()
  }
}
