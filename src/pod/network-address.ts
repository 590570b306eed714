import { isIP } from 'node:net'
import { Fault } from '../base/fault.ts'
import { readJsonIfAny } from '../base/file.ts'
import type { NetworkResult } from '../network/index.ts'
import { POD_INTERFACE } from './network-request.ts'

/** Which family is a pod's first address; `cni`: the order of the plugins. */
export type AddressPreference = 'ipv4' | 'ipv6' | 'cni'

const CIDRS_MAX = 16

/** The addresses of the pod's interface, without prefix length; those of the preferred family first, else in the plugins' order. */
export function orderAddresses(result: NetworkResult, preference: AddressPreference): string[] {
  const own = result.ips.filter((ip) => {
    if (ip.interface === undefined) return true
    const name = result.interfaces[ip.interface]?.name
    return name === undefined || name === POD_INTERFACE
  })
  const addresses = (own.length > 0 ? own : result.ips).map((ip) => ip.address.split('/')[0] ?? '')
  const primary = addresses.find((ip) => isIP(ip) === (preference === 'ipv6' ? 6 : 4))
  if (preference === 'cni' || primary === undefined) return addresses
  return [primary, ...addresses.filter((ip) => ip !== primary)]
}

/** Ranges of addresses, separated by commas. */
export function parseCidrs(text: string): string[] {
  const cidrs = text.split(',').map((part) => part.trim())
  if (cidrs.length <= CIDRS_MAX && cidrs.every(isCidr)) return cidrs
  throw new Fault(
    'INVALID_ARGUMENT',
    `pod_cidr ${JSON.stringify(text.slice(0, 200))} is no list of address ranges`,
  )
}

/** The ranges that a file keeps; none where it is missing or damaged: the client tells them again. */
export function readCidrs(path: string): readonly string[] {
  try {
    const value = readJsonIfAny(path)
    if (!Array.isArray(value) || value.length > CIDRS_MAX) return []
    return value.every((cidr) => typeof cidr === 'string' && isCidr(cidr)) ? value : []
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return []
    throw error
  }
}

function isCidr(text: string): boolean {
  const [address = '', length = '', ...more] = text.split('/')
  const bits = isIP(address) === 4 ? 32 : 128
  return (
    more.length === 0 && isIP(address) > 0 && /^\d{1,3}$/.test(length) && Number(length) <= bits
  )
}
