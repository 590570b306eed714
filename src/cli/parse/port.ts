import { isIP } from 'node:net'
import { Fault } from '../../base/fault.ts'
import type { PortOption } from '../../engine/options.ts'

/**
 * `-p [HOST-IP:][HOST-PORT:]PORT[/PROTOCOL]`; ports may be ranges of one length, IPv6 stands in brackets. Without a host port
 * it is 0: any free one.
 */
export function parsePorts(text: string): PortOption[] {
  const bad = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `"${text}" is no port to publish: ${reason}`)
  const slash = text.indexOf('/')
  const protocol = slash < 0 ? 'tcp' : text.slice(slash + 1).toLowerCase()
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') {
    throw bad(`protocol "${protocol}" is none of tcp, udp, sctp`)
  }
  const spec = slash < 0 ? text : text.slice(0, slash)
  const match = /^(?:(?:\[([^\]]*)\]|([^:[\]]*)):)??(?:([\d-]*):)?([\d-]+)$/.exec(spec)
  if (!match) throw bad('write HOST-IP:HOST-PORT:PORT, HOST-PORT:PORT or PORT')
  const hostIp = match[1] ?? match[2] ?? ''
  if (hostIp !== '' && isIP(hostIp) === 0) throw bad(`"${hostIp}" is no IP address`)
  if (match[1] !== undefined && isIP(hostIp) !== 6) throw bad(`"${hostIp}" is no IPv6 address`)
  const container = range(match[4] ?? '', bad)
  const host = match[3] ? range(match[3], bad) : undefined
  const count = container.last - container.first + 1
  if (host && host.last - host.first + 1 !== count) {
    throw bad('the ranges of host and container ports differ in length')
  }
  return Array.from({ length: count }, (_, i) => ({
    hostIp,
    hostPort: host ? host.first + i : 0,
    containerPort: container.first + i,
    protocol,
  }))
}

function range(text: string, bad: (reason: string) => Fault): { first: number; last: number } {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)
  if (!match) throw bad(`"${text}" is no port or range of ports`)
  const first = Number(match[1])
  const last = Number(match[2] ?? match[1])
  if (first < 1 || last > 65_535 || last < first) throw bad(`${text} is not within 1 to 65535`)
  return { first, last }
}
