import { randomBytes } from 'node:crypto'
import { constants, openSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { Fd } from '../kernel/fd.ts'
import type { BridgePlan } from './bridge-plan.ts'
import { dropLease, type Lease, type Route, releaseLeases, takeLease } from './host-local.ts'
import { findIptables, type Iptables } from './iptables.ts'
import { formatIpv4, formatSubnet, type Subnet } from './ipv4.ts'
import type { Limits } from './limits.ts'
import { addMasquerade, refuseNftMasquerade, removeMasquerade } from './masquerade.ts'
import {
  addAddress,
  addRoute,
  addVeth,
  deleteLink,
  getAddresses,
  getLink,
  type Ipv4,
  type Link,
  parseAddresses,
  parseLink,
  setHairpin,
  setMaster,
  setUp,
} from './netlink.ts'
import { inNetwork, Refused } from './network-acts.ts'
import type { PluginCall } from './plugin.ts'
import type { Generation } from './standard.ts'

const CONTAINER_ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/
/** Those of a path below /proc/sys that need no second thought. */
const INTERFACE = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,14}$/
const FORWARDING = '/proc/sys/net/ipv4/ip_forward'
/** How long is waited for the bridge's port to pass packets: as the plugin waits, but asked more often at first. */
const PORT_WAITS_MS = [0, 1, 2, 5, 10, ...Array.from({ length: 50 }, () => 50)]
const ENODEV = 19
/** The first address of 224.0.0.0/4; what follows is no unicast address either. */
const MULTICAST_FIRST = 0xe0000000

/** The container's side, as a call names it. */
interface Container {
  readonly id: string
  readonly ifname: string
  readonly netns: string
}

/** What an ADD has made, of which its result tells. */
interface Connected {
  /** The container's side. */
  readonly inside: Link
  readonly port: Link
  /** The bridge's. */
  readonly mac: string
  readonly lease: Lease
  readonly routes: readonly Route[]
}

/** What cannot be taken back, by nobody who is called again. */
export class LeftOver extends Error {}

/** What is to be taken back after a failure, newest last. */
type Undo = (() => Promise<unknown>)[]

/**
 * ADD of the plugins bridge and host-local. Fails without a trace, and then the plugin itself is to say what is wrong, or to do what is not done
 * here: the bridge of a network's first container among that.
 */
export async function addToBridge(
  plan: BridgePlan,
  call: PluginCall,
  generation: Generation,
  limits: Limits,
): Promise<unknown> {
  const container = containerOf(call)
  const iptables = plan.ipMasq ? iptablesOf() : undefined
  const bridge = await limits.step(() => usableBridge(plan))
  const undo: Undo = []
  try {
    const lending = limits.step(() => lend(plan, container, generation, call, undo))
    const masquerade = async (): Promise<void> => {
      const { address } = await lending
      if (!iptables) return
      await limits.step(() => addMasquerade(iptables, plan.network, call, address))
      undo.push(() => removeMasquerade(iptables, plan.network, call, address))
    }
    const connect = async (): Promise<Connected> => {
      const [veth, lease] = await both(
        limits.step(() => makeVeth(plan, container, generation, undo)),
        lending,
      )
      const routes = routesOf(plan, lease)
      const [port] = await both(
        limits.step(() => connectPort(veth.peer, bridge, plan.hairpin)),
        limits.step(() => configure(container, veth.link.index, lease, routes)),
      )
      if (plan.isGateway) enableForwarding()
      const mac = await limits.step(() =>
        waitForPort(plan.bridge, veth.peer, container, call.signal),
      )
      return { inside: veth.link, port, mac, lease, routes }
    }
    // The rules take as long as all else.
    const [{ inside, port, mac, lease, routes }] = await both(connect(), masquerade())
    return {
      cniVersion: plan.version,
      interfaces: [
        { name: plan.bridge, mac },
        { name: port.name, mac: port.mac },
        { name: container.ifname, mac: inside.mac, sandbox: container.netns },
      ],
      ips: [
        {
          ...(plan.version.startsWith('0.') ? { version: '4' } : {}),
          interface: 2,
          address: formatSubnet(lease.address),
          gateway: formatIpv4(lease.gateway),
        },
      ],
      ...(routes.length > 0 ? { routes: routes.map(formatRoute) } : {}),
      dns: {},
    }
  } catch (error) {
    // Where the time is over the chain's DEL comes, which finds all of it.
    if (!limits.fault) for (const step of undo.reverse()) await step()
    throw error
  }
}

/**
 * DEL of the plugins bridge and host-local. Where it fails, the plugin finds all that is left; but where it is the rules that stay (a LeftOver), the plugin would not
 * find them either: it learns the address of the interface, and is as far then. Here the leases tell of addresses, too.
 */
export async function deleteFromBridge(
  plan: BridgePlan,
  call: PluginCall,
  generation: Generation,
  limits: Limits,
): Promise<void> {
  const container = containerOf(call)
  const found = container.netns === '' ? undefined : await limits.step(() => findLink(container))
  const refuse = async (): Promise<void> => {
    if (plan.ipMasq && generation === 'since-1.6') await refuseNftMasquerade()
  }
  if (found) await limits.step(refuse)
  let iptables = found && plan.ipMasq ? iptablesOf() : undefined
  let leftOver: LeftOver | undefined
  const unmask = async (addresses: readonly Subnet[]): Promise<void> => {
    for (const address of iptables ? addresses : []) {
      try {
        await removeMasquerade(iptables as Iptables, plan.network, call, address)
      } catch (error) {
        // Where the time is over the next DEL finds them by the lease.
        if (limits.fault) throw error
        leftOver = new LeftOver(describe(error))
      }
    }
  }
  // An ADD that was ended between its rules and the interface's address has left rules of which only the lease tells; so has one whose namespace is gone.
  const unmaskRest = async (leased: readonly Ipv4[]): Promise<void> => {
    const rest = leased.filter((one) => !found?.addresses.some(({ address }) => address === one))
    if (!plan.ipMasq || rest.length === 0) return
    await refuse()
    iptables ??= iptablesOf()
    await unmask(rest.map((address) => ({ address, prefix: 32 })))
  }
  if (found) {
    // Both wait for the kernel most of their time: side by side.
    await both(
      limits.step(() => removeLink(container, found.index)),
      limits.step(() => unmask(found.addresses)),
    )
  }
  await limits.step(async () => call.after)
  // Only now may another have the address.
  await limits.step(() => releaseLeases(plan.lease.directory, container, call.signal, unmaskRest))
  if (leftOver) throw leftOver
}

function containerOf(call: PluginCall): Container {
  const { containerId: id, ifname, netns } = call
  const isNamed = CONTAINER_ID.test(id ?? '') && INTERFACE.test(ifname ?? '')
  if (id === undefined || ifname === undefined || netns === undefined || !isNamed) {
    throw new Fault('INVALID_ARGUMENT', `${call.type} is called without a container`)
  }
  return { id, ifname, netns }
}

function iptablesOf(): Iptables {
  const iptables = findIptables()
  if (!iptables) throw new Fault('FAILED_PRECONDITION', 'there is no iptables that is known here')
  return iptables
}

/** Both outcomes are waited for: what one has made is known when the other has failed. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second])
  if (a.status === 'rejected') throw a.reason
  if (b.status === 'rejected') throw b.reason
  return [a.value, b.value]
}

/** The bridge as an earlier ADD has left it: up, with the network's gateway as an address. */
async function usableBridge(plan: BridgePlan): Promise<Link> {
  const [link, addresses] = await inNetwork('', [
    getLink(plan.bridge),
    getAddresses(),
    [`/proc/sys/net/ipv6/conf/${plan.bridge}/accept_ra`, '0'],
  ])
  if (!link || !addresses) throw new Fault('INTERNAL', 'netlink has not answered')
  const bridge = parseLink(link)
  const isReady = bridge.kind === 'bridge' && bridge.isUp && !bridge.isPromiscuous
  const all = parseAddresses(addresses).filter(({ index }) => index === bridge.index)
  const hasGateway = plan.lease.ranges.every(({ gateway, subnet }) =>
    all.some(({ address, prefix }) => address === gateway && prefix === subnet.prefix),
  )
  if (isReady && (!plan.isGateway || hasGateway)) return bridge
  throw new Fault('FAILED_PRECONDITION', `bridge ${plan.bridge} is not yet as the network has it`)
}

/** The pair of interfaces: the container's, and its peer in our own namespace. */
async function makeVeth(
  plan: BridgePlan,
  container: Container,
  generation: Generation,
  undo: Undo,
): Promise<{ link: Link; peer: string }> {
  const peer = `veth${randomBytes(4).toString('hex')}`
  using own = new Fd(openSync('/proc/self/ns/net', constants.O_RDONLY))
  const [, answer] = await inNetwork(container.netns, [
    addVeth({
      name: container.ifname,
      peer,
      peerNetnsFd: own.number,
      mtu: plan.mtu,
      // Older plugins set it by mistake; no packet is ever queued there.
      queueLength: generation === 'before-1.6' ? 0 : undefined,
    }),
    getLink(container.ifname),
  ])
  if (!answer) throw new Fault('INTERNAL', 'netlink has not answered')
  const link = parseLink(answer)
  undo.push(() => inNetwork(container.netns, [deleteLink(link.index)]))
  return { link, peer }
}

async function lend(
  plan: BridgePlan,
  container: Container,
  generation: Generation,
  call: PluginCall,
  undo: Undo,
): Promise<Lease> {
  const mode = generation === 'before-1.6' ? 0o644 : 0o600
  const lease = await takeLease(plan.lease, container, { mode, signal: call.signal })
  undo.push(() => dropLease(plan.lease, lease))
  return lease
}

async function connectPort(peer: string, bridge: Link, hairpin: boolean): Promise<Link> {
  const [answer] = await inNetwork('', [getLink(peer)])
  if (!answer) throw new Fault('INTERNAL', 'netlink has not answered')
  const port = parseLink(answer)
  await inNetwork('', [
    setUp(port.index),
    [`/proc/sys/net/ipv6/conf/${peer}/accept_ra`, '0'],
    setMaster(port.index, bridge.index),
    setHairpin(port.index, hairpin),
  ])
  return port
}

async function configure(
  container: Container,
  index: number,
  lease: Lease,
  routes: readonly Route[],
): Promise<void> {
  await inNetwork(container.netns, [
    [`/proc/sys/net/ipv6/conf/${container.ifname}/accept_dad`, '0'],
    // The neighbours learn at once where the address is now.
    [`/proc/sys/net/ipv4/conf/${container.ifname}/arp_notify`, '1'],
    addAddress(index, lease.address.address, lease.address.prefix),
    setUp(index),
    ...routes.map(({ destination, gateway }) =>
      addRoute(index, {
        destination: destination.address,
        prefix: destination.prefix,
        gateway: gateway ?? lease.gateway,
      }),
    ),
  ])
}

/** Those of the configuration, and with isDefaultGateway the one that this asks for. */
function routesOf(plan: BridgePlan, lease: Lease): Route[] {
  const { routes } = plan.lease
  const isThere = routes.some(
    ({ destination, gateway }) => destination.prefix === 0 && gateway !== undefined,
  )
  if (!plan.isDefaultGateway || isThere) return [...routes]
  return [...routes, { destination: { address: 0, prefix: 0 }, gateway: lease.gateway }]
}

function enableForwarding(): void {
  if (readFileSync(FORWARDING, 'utf8').trim() !== '1') writeFileSync(FORWARDING, '1')
}

/** Waits until the bridge's port passes packets, and the container's side, too; gives the bridge's MAC then. */
async function waitForPort(
  bridge: string,
  peer: string,
  container: Container,
  signal: AbortSignal | undefined,
): Promise<string> {
  for (const ms of PORT_WAITS_MS) {
    if (ms > 0) await delay(ms, undefined, { signal })
    const [[port, own], [inside]] = await both(
      inNetwork('', [getLink(peer), getLink(bridge)]),
      inNetwork(container.netns, [getLink(container.ifname)]),
    )
    const sides = [port, inside].map((side) => side && parseLink(side))
    if (own && sides.every((side) => side?.isOperating)) return parseLink(own).mac
  }
  throw new Fault('INTERNAL', `port ${peer} of bridge ${bridge} does not come up`)
}

/** The container's interface and its addresses that may have been masqueraded; undefined where there is none, or no namespace. */
async function findLink(
  container: Container,
): Promise<{ index: number; addresses: Subnet[] } | undefined> {
  try {
    const [link, all] = await inNetwork(container.netns, [
      getLink(container.ifname),
      getAddresses(),
    ])
    if (!link || !all) return undefined
    const { index } = parseLink(link)
    const addresses = parseAddresses(all).filter((one) => one.index === index && !one.isLocal)
    return {
      index,
      addresses: addresses.flatMap(({ address, prefix }) => {
        if (address === undefined) throw new Fault('UNIMPLEMENTED', 'an address of IPv6')
        return isGlobal(address) ? [{ address, prefix }] : []
      }),
    }
  } catch (error) {
    if (error instanceof Refused && error.errno === ENODEV && error.index === 0) return undefined
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/**
 * Removes the container's interface, and with it its peer. Done when nobody sees it any more: for another 10 to 20 ms the kernel keeps the caller
 * waiting until it has forgotten it, too (rcu_barrier), and that is left to the thread.
 */
async function removeLink(container: Container, index: number): Promise<void> {
  let isOver = false
  const removal = inNetwork(container.netns, [deleteLink(index)]).finally(() => {
    isOver = true
  })
  removal.catch(() => {})
  while (!isOver) {
    if ((await findLink(container)) === undefined) return
  }
  await removal
}

/** Neither loopback nor link-local, multicast, broadcast or none. */
function isGlobal(address: Ipv4): boolean {
  return (
    address !== 0 &&
    address >>> 24 !== 127 &&
    address >>> 16 !== 0xa9fe &&
    address < MULTICAST_FIRST
  )
}

function formatRoute({ destination, gateway }: Route): { dst: string; gw?: string } {
  return {
    dst: formatSubnet(destination),
    ...(gateway === undefined ? {} : { gw: formatIpv4(gateway) }),
  }
}
