import { Socket } from 'node:net'
import { Fault } from '../base/fault.ts'
import { binding } from './binding.ts'

/** What a network interface has carried since it was made. */
export interface InterfaceCounters {
  readonly name: string
  readonly received: Traffic
  readonly sent: Traffic
}

export interface Traffic {
  readonly bytes: bigint
  readonly packets: bigint
  readonly errors: bigint
  readonly dropped: bigint
}

/** Where /proc/net/dev has the four counters of each direction: after eight of reception come those of sending. */
const RECEIVED = 0
const SENT = 8

/** The counters of all interfaces of the network namespace at the path; no process need be in it. */
export async function networkCounters(path: string): Promise<InterfaceCounters[]> {
  return parseCounters(await binding.netnsStats(path))
}

/** The same of many namespaces, without a thread for each; what has failed is in its place. */
export async function networkCountersOfAll(
  paths: readonly string[],
): Promise<(InterfaceCounters[] | Error)[]> {
  const texts = await binding.netnsStatsOfAll(paths)
  return texts.map((text) => (text instanceof Error ? text : parseCounters(text)))
}

/** Two lines of heading, then a line for each interface. */
export function parseCounters(text: string): InterfaceCounters[] {
  return text
    .split('\n')
    .slice(2)
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, numbers = ''] = /^\s*([^:]+):\s*(\d+(?:\s+\d+){15})\s*$/.exec(line) ?? []
      if (name === undefined)
        throw new Fault('DATA_LOSS', `/proc/net/dev has a line that is none: ${line}`)
      const counters = numbers.split(/\s+/).map(BigInt)
      const traffic = (from: number): Traffic => {
        const [bytes = 0n, packets = 0n, errors = 0n, dropped = 0n] = counters.slice(from)
        return { bytes, packets, errors, dropped }
      }
      return { name, received: traffic(RECEIVED), sent: traffic(SENT) }
    })
}

/**
 * A TCP connection to an address as seen in the network namespace at the path, whatever network this process is in. Each side may end before the
 * other. Rejects with the system's error (ECONNREFUSED, ETIMEDOUT after `timeoutMs`).
 */
export async function connectInside(
  path: string,
  to: { readonly host: string; readonly port: number; readonly timeoutMs: number },
): Promise<Socket> {
  const fd = await binding.connectIn(path, to.host, to.port, to.timeoutMs)
  return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
}
