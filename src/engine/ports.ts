import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { Fault } from '../base/fault.ts'
import type { PortOption } from './options.ts'

/**
 * Gives every port that asks for none a free one of the host, for the container's whole life (docker takes another at each start). Between the choice and
 * the start somebody else may take it: then the start fails and says so.
 */
export function chooseHostPorts(ports: readonly PortOption[]): Promise<PortOption[]> {
  return Promise.all(
    ports.map(async (port) =>
      port.hostPort === 0 ? { ...port, hostPort: await freePort(port) } : port,
    ),
  )
}

function freePort({ protocol, hostIp, containerPort }: PortOption): Promise<number> {
  if (protocol === 'sctp') {
    throw new Fault(
      'UNIMPLEMENTED',
      `-p ${containerPort}/sctp: no free port can be chosen for sctp; name one, HOST-PORT:${containerPort}/sctp`,
    )
  }
  const socket =
    protocol === 'tcp' ? createServer() : createSocket(hostIp.includes(':') ? 'udp6' : 'udp4')
  return new Promise((resolve, reject) => {
    const listening = (): void => {
      const { port } = socket.address() as { port: number }
      socket.close(() => resolve(port))
    }
    socket.once('error', (error: Error) =>
      reject(
        new Fault(
          'UNAVAILABLE',
          `-p ${containerPort}: no port of ${hostIp || 'this host'} is free`,
          { cause: error },
        ),
      ),
    )
    socket.once('listening', listening)
    if ('listen' in socket) socket.listen(0, hostIp === '' ? undefined : hostIp)
    else socket.bind(0, hostIp === '' ? undefined : hostIp)
  })
}
