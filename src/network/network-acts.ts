import { binding } from '../kernel/binding.ts'
import { NETLINK_ROUTE } from './netlink.ts'

/** A netlink request, or a sysctl's file and what is written to it. */
export type NetworkAct = Buffer | readonly [file: string, text: string]

/** A request that the kernel has refused; `code` as of any system error. */
export class Refused extends Error {
  readonly errno: number
  /** Of the acts, counted from 0: those before it are done. */
  readonly index: number

  constructor(errno: number, index: number) {
    super(`the kernel refuses netlink request ${index}: error ${errno}`)
    this.errno = errno
    this.index = index
  }
}

/**
 * Does the acts in the network namespace at `path` ('' for our own), and gives the answers: an empty one for a file. What cannot be written to a file is let
 * be, as the plugins do: a kernel without IPv6 has none of its sysctls. Fails with Refused.
 */
export async function inNetwork(
  path: string,
  acts: readonly NetworkAct[],
  protocol: number = NETLINK_ROUTE,
): Promise<Buffer[]> {
  const outcomes = await binding.networkActs(path, protocol, acts)
  return outcomes.map((outcome, index) => {
    if (typeof outcome !== 'number') return outcome
    if (outcome !== 0 && Buffer.isBuffer(acts[index])) throw new Refused(-outcome, index)
    return Buffer.alloc(0)
  })
}
