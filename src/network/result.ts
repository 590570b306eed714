import { Fault } from '../base/fault.ts'
import { isObject } from './conf.ts'
import { compareVersions } from './version.ts'

/** What a network gave a container, in the words of CNI 1.x whatever version the plugins speak. */
export interface NetworkResult {
  readonly interfaces: readonly NetworkInterface[]
  readonly ips: readonly NetworkAddress[]
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[]
  readonly dns: NetworkDns
}

export interface NetworkInterface {
  readonly name: string
  readonly mac: string
  /** The namespace's path; '' for an interface of the host. */
  readonly sandbox: string
}

export interface NetworkAddress {
  /** With prefix length: 10.89.0.2/16. */
  readonly address: string
  readonly gateway?: string
  /** Index into interfaces. */
  readonly interface?: number
}

export interface NetworkDns {
  readonly nameservers: readonly string[]
  readonly domain?: string
  readonly search: readonly string[]
  readonly options: readonly string[]
}

export const RESULT_LIST_MAX = 1024

/** A plugin's result, of any version of the specification. INTERNAL names what is wrong with it. */
export function parseResult(value: unknown, version: string, subject: string): NetworkResult {
  if (!isObject(value)) throw new Fault('INTERNAL', `${subject} gave no result object`)
  const of = typeof value['cniVersion'] === 'string' ? value['cniVersion'] : version
  const old = compareVersions(of, '0.3.0') < 0
  return {
    interfaces: list(value['interfaces'], subject).map((entry) => ({
      name: text(entry['name']) ?? '',
      mac: text(entry['mac']) ?? '',
      sandbox: text(entry['sandbox']) ?? '',
    })),
    ips: old ? oldAddresses(value) : addresses(value, subject),
    routes: old ? oldRoutes(value, subject) : routes(value['routes'], subject),
    dns: dns(value['dns']),
  }
}

function addresses(value: Record<string, unknown>, subject: string): NetworkAddress[] {
  return list(value['ips'], subject).map((entry) => {
    const address = text(entry['address'])
    if (address === undefined) throw new Fault('INTERNAL', `${subject} gave an ip without address`)
    const gateway = text(entry['gateway'])
    const index = entry['interface']
    return {
      address,
      ...(gateway === undefined ? {} : { gateway }),
      ...(typeof index === 'number' ? { interface: index } : {}),
    }
  })
}

/** Before 0.3.0 a result holds at most one address of each family, and no interfaces. */
function oldAddresses(value: Record<string, unknown>): NetworkAddress[] {
  return [value['ip4'], value['ip6']].filter(isObject).flatMap((entry) => {
    const address = text(entry['ip'])
    const gateway = text(entry['gateway'])
    if (address === undefined) return []
    return [{ address, ...(gateway === undefined ? {} : { gateway }) }]
  })
}

function oldRoutes(value: Record<string, unknown>, subject: string): NetworkResult['routes'] {
  return [value['ip4'], value['ip6']]
    .filter(isObject)
    .flatMap((entry) => routes(entry['routes'], subject))
}

function routes(value: unknown, subject: string): { dst: string; gw?: string }[] {
  return list(value, subject).map((entry) => {
    const gw = text(entry['gw'])
    return { dst: text(entry['dst']) ?? '', ...(gw === undefined ? {} : { gw }) }
  })
}

function dns(value: unknown): NetworkDns {
  const given = isObject(value) ? value : {}
  const texts = (key: string): string[] => {
    const entries = given[key]
    return Array.isArray(entries) ? entries.filter((entry) => typeof entry === 'string') : []
  }
  const domain = text(given['domain'])
  return {
    nameservers: texts('nameservers'),
    ...(domain === undefined ? {} : { domain }),
    search: texts('search'),
    options: texts('options'),
  }
}

function list(value: unknown, subject: string): Record<string, unknown>[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value) || value.length > RESULT_LIST_MAX || !value.every(isObject)) {
    throw new Fault('INTERNAL', `${subject} gave a result that does not follow the specification`)
  }
  return value
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
