import { createHash, randomBytes } from 'node:crypto'
import { constants, openSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isErrno } from '../base/fault.ts'
import { Fd } from '../kernel/fd.ts'
import type { BridgePlan } from './bridge-plan.ts'
import { dropLease, type Lease, type Route, releaseLeases, takeLease } from './host-local.ts'
import { changeRules, findIptables, type Iptables } from './iptables.ts'
import { formatIpv4, type Subnet } from './ipv4.ts'
import type { Limits } from './limits.ts'
import {
  addAddress,
  addRoute,
  addVeth,
  deleteLink,
  getAddresses,
  getLink,
  getRules,
  type Ipv4,
  type Link,
  NETLINK_NETFILTER,
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
const PORT_WAITS_MS = [0, 1, 2, 5, 10, 30, 500, 1000, 1000]
const ENODEV = 19
/** The chain's name is cut to this length by the plugins. */
const CHAIN_CHARACTERS = 28
const MULTICAST = '224.0.0.0/4'
/** The first address of 224.0.0.0/4; what follows is no unicast address either. */
const MULTICAST_FIRST = 0xe0000000
/** Where plugins since 1.6 keep the rules of networks that do without iptables. */
const NFT_MASQUERADE_TABLE = 'cni_plugins_masquerade'

/** The container's side, as a call names it. */
interface Container {
  readonly id: string
  readonly ifname: string
  readonly netns: string
}

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
    const [veth, lease] = await both(
      limits.step(() => makeVeth(plan, container, generation, undo)),
      limits.step(() => lend(plan, container, generation, call, undo)),
    )
    const routes = routesOf(plan, lease)
    const [port] = await both(
      limits.step(() => connectPort(veth.peer, bridge, plan.hairpin)),
      limits.step(() => configure(container, veth.link.index, lease, routes)),
    )
    if (plan.isGateway) enableForwarding()
    const masquerade = async (): Promise<void> => {
      if (iptables) await addMasquerade(iptables, plan, call, lease.address)
      undo.push(async () => iptables && removeMasquerade(iptables, plan, call, lease.address))
    }
    const [mac] = await both(
      limits.step(() => waitForPort(plan.bridge, veth.peer, container)),
      iptables ? limits.step(masquerade) : Promise.resolve(),
    )
    return {
      cniVersion: plan.version,
      interfaces: [
        { name: plan.bridge, mac },
        { name: veth.peer, mac: port.mac },
        { name: container.ifname, mac: veth.link.mac, sandbox: container.netns },
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

/** DEL of the plugins bridge and host-local. Where it fails, the plugin finds all that is left. */
export async function deleteFromBridge(
  plan: BridgePlan,
  call: PluginCall,
  generation: Generation,
  limits: Limits,
): Promise<void> {
  const container = containerOf(call)
  const release = (): Promise<void> =>
    limits.step(() => releaseLeases(plan.lease.directory, container, call.signal))
  const found = container.netns === '' ? undefined : await limits.step(() => findLink(container))
  if (!found) return release()
  if (plan.ipMasq) {
    if (generation === 'since-1.6') await limits.step(refuseNftMasquerade)
    const iptables = iptablesOf()
    for (const address of found.addresses)
      await limits.step(() => removeMasquerade(iptables, plan, call, address))
  }
  await limits.step(() => inNetwork(container.netns, [deleteLink(found.index)]))
  // Only now may another have the address.
  await release()
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
async function waitForPort(bridge: string, peer: string, container: Container): Promise<string> {
  for (const ms of PORT_WAITS_MS) {
    if (ms > 0) await delay(ms)
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

/** Neither loopback nor link-local, multicast, broadcast or none. */
function isGlobal(address: Ipv4): boolean {
  return (
    address !== 0 &&
    address >>> 24 !== 127 &&
    address >>> 16 !== 0xa9fe &&
    address < MULTICAST_FIRST
  )
}

/** With a chain of its own, named as the plugin names it. That chain must be a new one: else the plugin is to look what there is. */
function addMasquerade(
  iptables: Iptables,
  plan: BridgePlan,
  call: PluginCall,
  address: Subnet,
): Promise<void> {
  const { chain, comment, jump } = masquerade(plan, call, address)
  const commands = [
    `-N ${chain}`,
    `-A ${chain} -d ${formatSubnet(address)} ${comment} -j ACCEPT`,
    `-A ${chain} ! -d ${MULTICAST} ${comment} -j MASQUERADE`,
    `-A ${jump}`,
  ]
  return changeRules(iptables, 'nat', commands, call)
}

async function removeMasquerade(
  iptables: Iptables,
  plan: BridgePlan,
  call: PluginCall,
  address: Subnet,
): Promise<void> {
  const { chain, jump } = masquerade(plan, call, address)
  try {
    await changeRules(iptables, 'nat', [`-D ${jump}`, `-F ${chain}`, `-X ${chain}`], call)
  } catch {
    // Nothing leads there, as after an ADD that was killed: the first line makes the chain, or empties it. Where something does lead there, this fails, too.
    await changeRules(iptables, 'nat', [`:${chain} - [0:0]`, `-X ${chain}`], call)
  }
}

function masquerade(
  plan: BridgePlan,
  call: PluginCall,
  address: Subnet,
): { chain: string; comment: string; jump: string } {
  const id = call.containerId ?? ''
  const hash = createHash('sha512').update(`${plan.network}${id}`).digest('hex')
  const chain = `CNI-${hash}`.slice(0, CHAIN_CHARACTERS)
  const comment = `-m comment --comment "name: \\"${plan.network}\\" id: \\"${id}\\""`
  return {
    chain,
    comment,
    jump: `POSTROUTING -s ${formatIpv4(address.address)}/32 ${comment} -j ${chain}`,
  }
}

/** Fails where plugins have rules that are not of iptables: an earlier configuration may have asked for them. */
async function refuseNftMasquerade(): Promise<void> {
  const [rules] = await inNetwork('', [getRules(NFT_MASQUERADE_TABLE)], NETLINK_NETFILTER)
  if (rules?.length !== 0) throw new Fault('UNIMPLEMENTED', 'rules of nftables')
}

function formatSubnet({ address, prefix }: Subnet): string {
  return `${formatIpv4(address)}/${prefix}`
}

function formatRoute({ destination, gateway }: Route): { dst: string; gw?: string } {
  return {
    dst: formatSubnet(destination),
    ...(gateway === undefined ? {} : { gw: formatIpv4(gateway) }),
  }
}
