/** IPv4 addresses and networks as numbers: pure. */
import { isIPv4 } from 'node:net'
import type { Ipv4 } from './netlink.ts'

export interface Subnet {
  readonly address: Ipv4
  readonly prefix: number
}

/** Undefined for what is no address in dotted decimals. */
export function parseIpv4(text: unknown): Ipv4 | undefined {
  if (typeof text !== 'string' || !isIPv4(text)) return undefined
  return text.split('.').reduce((number, part) => number * 256 + Number(part), 0)
}

/** ADDRESS/PREFIX; the address may have bits beyond the prefix. */
export function parseSubnet(text: unknown): Subnet | undefined {
  const [, host, length] = /^([\d.]+)\/(\d{1,2})$/.exec(typeof text === 'string' ? text : '') ?? []
  const address = parseIpv4(host)
  const prefix = Number(length)
  return address === undefined || !(prefix <= 32) ? undefined : { address, prefix }
}

export function formatIpv4(address: Ipv4): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.')
}

export function networkOf({ address, prefix }: Subnet): Ipv4 {
  return prefix === 0 ? 0 : (address & (0xffffffff << (32 - prefix))) >>> 0
}

/** The last address of a network, its broadcast address. */
export function lastOf({ address, prefix }: Subnet): Ipv4 {
  return (address | (prefix === 32 ? 0 : 0xffffffff >>> prefix)) >>> 0
}

export function formatSubnet({ address, prefix }: Subnet): string {
  return `${formatIpv4(address)}/${prefix}`
}
