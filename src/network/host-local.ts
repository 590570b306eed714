import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { Fd } from '../kernel/fd.ts'
import { type FileLock, lockFile } from '../kernel/lock.ts'
import { readTexts } from '../kernel/read-files.ts'
import { isObject } from './conf.ts'
import { formatIpv4, lastOf, networkOf, parseIpv4, parseSubnet, type Subnet } from './ipv4.ts'
import type { Ipv4 } from './netlink.ts'

/** Where the plugin host-local keeps its leases, unless `dataDir` says another place. */
const DATA_DIRECTORY = '/var/lib/cni/networks'
const LAST_RESERVED = 'last_reserved_ip.0'
const IPAM_KEYS = [
  'type',
  'dataDir',
  'ranges',
  'routes',
  'subnet',
  'rangeStart',
  'rangeEnd',
  'gateway',
]
const RANGE_KEYS = ['subnet', 'rangeStart', 'rangeEnd', 'gateway']

/** The addresses from first to last, both among them. */
export interface Range {
  readonly subnet: Subnet
  readonly first: Ipv4
  readonly last: Ipv4
  readonly gateway: Ipv4
}

export interface Route {
  readonly destination: Subnet
  readonly gateway: Ipv4 | undefined
}

/** What the plugin host-local is asked for: an address of a set of ranges. */
export interface LeasePlan {
  readonly directory: string
  readonly ranges: readonly Range[]
  readonly routes: readonly Route[]
}

export interface Lease {
  readonly address: Subnet
  readonly gateway: Ipv4
  readonly path: string
}

/**
 * Of an `ipam` section and the ranges that a runtime asks for; undefined where that is not one set of IPv4 ranges and plain routes, or anything the
 * plugin would refuse.
 */
export function planLease(network: string, ipam: unknown, asked: unknown): LeasePlan | undefined {
  if (!isObject(ipam) || !hasOnly(ipam, IPAM_KEYS) || ipam['type'] !== 'host-local')
    return undefined
  const { dataDir = DATA_DIRECTORY, ranges = [], routes = [] } = ipam
  if (typeof dataDir !== 'string' || !isAbsolute(dataDir)) return undefined
  if (!Array.isArray(ranges) || !Array.isArray(routes)) return undefined
  const { subnet, rangeStart, rangeEnd, gateway } = ipam
  const single = { subnet, rangeStart, rangeEnd, gateway }
  const isSingle = Object.values(single).some((value) => value !== undefined)
  const sets: unknown[] = [
    ...(Array.isArray(asked) ? asked : []),
    ...(isSingle ? [[single]] : []),
    ...ranges,
  ]
  const [set] = sets
  if (sets.length !== 1 || !Array.isArray(set) || set.length === 0) return undefined
  const planned = all(set.map(planRange))
  const plannedRoutes = all(routes.map(planRoute))
  if (!planned || !plannedRoutes) return undefined
  const sorted = [...planned].sort((a, b) => a.first - b.first)
  if (sorted.some((range, i) => range.first <= (sorted[i - 1]?.last ?? -1))) return undefined
  return { directory: join(dataDir, network), ranges: planned, routes: plannedRoutes }
}

function planRange(value: unknown): Range | undefined {
  if (!isObject(value) || !hasOnly(value, RANGE_KEYS)) return undefined
  const subnet = parseSubnet(value['subnet'])
  if (!subnet || subnet.prefix > 30 || networkOf(subnet) !== subnet.address) return undefined
  const given = (key: string, otherwise: Ipv4): Ipv4 | undefined =>
    value[key] === undefined ? otherwise : parseIpv4(value[key])
  const gateway = given('gateway', subnet.address + 1)
  const first = given('rangeStart', subnet.address + 1)
  const last = given('rangeEnd', lastOf(subnet) - 1)
  if (gateway === undefined || first === undefined || last === undefined) return undefined
  if (first < subnet.address || last > lastOf(subnet) || first > last) return undefined
  return { subnet, first, last, gateway }
}

function planRoute(value: unknown): Route | undefined {
  if (!isObject(value) || !hasOnly(value, ['dst', 'gw'])) return undefined
  const destination = parseSubnet(value['dst'])
  const gateway = value['gw'] === undefined ? undefined : parseIpv4(value['gw'])
  if (!destination || networkOf(destination) !== destination.address) return undefined
  if (value['gw'] !== undefined && gateway === undefined) return undefined
  return { destination, gateway }
}

/**
 * Takes the next free address after the one that was given last, as the plugin does: a file named by the address, made under the lock that all programs
 * which give addresses of this network take.
 */
export async function takeLease(
  plan: LeasePlan,
  container: { readonly id: string; readonly ifname: string },
  options: { readonly mode: number; readonly signal?: AbortSignal | undefined },
): Promise<Lease> {
  using _lock = await lockLeases(plan.directory, options.signal)
  const leases = await readLeases(plan.directory)
  const marks = marksOf(container)
  if ([...leases.values()].some((text) => marks.includes(text.trim()))) {
    throw new Fault(
      'ALREADY_EXISTS',
      `container ${container.id} has an address in ${plan.directory}`,
    )
  }
  const last = parseIpv4(leases.get(LAST_RESERVED))
  const found = nextFree(plan.ranges, last, (address) => leases.has(formatIpv4(address)))
  if (found === undefined) {
    throw new Fault('RESOURCE_EXHAUSTED', `no address is left in ${plan.directory}`)
  }
  const { address, range } = found
  const path = join(plan.directory, formatIpv4(address))
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  using file = new Fd(openSync(path, flags, options.mode))
  try {
    writeFileSync(file.number, marks[0])
    writeFileSync(join(plan.directory, LAST_RESERVED), formatIpv4(address), { mode: options.mode })
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  }
  return { address: { address, prefix: range.subnet.prefix }, gateway: range.gateway, path }
}

/** Gives back a lease that was just taken, and no other. */
export async function dropLease(plan: LeasePlan, lease: Lease): Promise<void> {
  using _lock = await lockLeases(plan.directory, undefined)
  rmSync(lease.path, { force: true })
}

/** Gives back all addresses of a container's interface, when `before` has been done with those that there are; none is success. */
export async function releaseLeases(
  directory: string,
  container: { readonly id: string; readonly ifname: string },
  signal: AbortSignal | undefined,
  before: (addresses: readonly Ipv4[]) => Promise<void>,
): Promise<void> {
  using _lock = await lockLeases(directory, signal)
  const leases = await readLeases(directory)
  // Files of very old plugins hold the container's id only.
  const held = marksOf(container)
    .map((mark) => [...leases].filter(([, text]) => text.trim() === mark).map(([name]) => name))
    .find((names) => names.length > 0)
  if (held === undefined) return
  await before(held.flatMap((name) => parseIpv4(name) ?? []))
  for (const name of held) rmSync(join(directory, name), { force: true })
}

/** What the file of a lease holds, and what it held once. */
function marksOf(container: { readonly id: string; readonly ifname: string }): [string, string] {
  return [`${container.id}\r\n${container.ifname}`, container.id]
}

async function lockLeases(directory: string, signal: AbortSignal | undefined): Promise<FileLock> {
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const path = join(directory, 'lock')
  // As the plugin makes it; what lockFile() makes is less.
  closeSync(openSync(path, constants.O_RDONLY | constants.O_CREAT, 0o750))
  return lockFile(path, { exclusive: true, signal })
}

/** The texts of all files by name. The plugin looks below directories and through links, too: these are left to it. */
async function readLeases(directory: string): Promise<Map<string, string>> {
  const entries = readdirSync(directory, { withFileTypes: true })
  const odd = entries.find((entry) => !entry.isFile())
  if (odd) throw new Fault('FAILED_PRECONDITION', `${join(directory, odd.name)} is no file`)
  const names = entries.map(({ name }) => name).filter((name) => name !== 'lock')
  const text = await readTexts(names.map((name) => join(directory, name)))
  const leases = new Map<string, string>()
  for (const name of names) {
    try {
      leases.set(name, text(join(directory, name)))
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
  return leases
}

/**
 * The first free address after `last`, or from the beginning where that is in no range, once around; gateways are not given away. Each step that is not
 * the last one meets a taken address or a gateway, so however large the ranges are, it takes no more steps than there are leases.
 */
export function nextFree(
  ranges: readonly Range[],
  last: Ipv4 | undefined,
  isTaken: (address: Ipv4) => boolean,
): { address: Ipv4; range: Range } | undefined {
  const inside = ranges.findIndex(
    (range) => last !== undefined && last >= range.first && last <= range.last,
  )
  let index = Math.max(inside, 0)
  let at = inside >= 0 ? last : undefined
  let begun: Ipv4 | undefined
  for (;;) {
    let range = ranges[index]
    if (!range) return undefined
    if (at === undefined) at = range.first
    else if (at === range.last) {
      index = (index + 1) % ranges.length
      range = ranges[index] ?? range
      at = range.first
    } else at++
    if (at === begun) return undefined
    begun ??= at
    if (at !== range.gateway && !isTaken(at)) return { address: at, range }
  }
}

export function hasOnly(
  value: Readonly<Record<string, unknown>>,
  keys: readonly string[],
): boolean {
  return Object.entries(value).every(([key, one]) => keys.includes(key) || one === undefined)
}

function all<T>(list: readonly (T | undefined)[]): readonly T[] | undefined {
  const found = list.filter((one) => one !== undefined)
  return found.length === list.length ? found : undefined
}
