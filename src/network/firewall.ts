import { existsSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { isKnownVersion } from './bridge-plan.ts'
import { isObject } from './conf.ts'
import { hasOnly } from './host-local.ts'
import { changeRules, findIptables } from './iptables.ts'
import { formatIpv4, parseIpv4, parseSubnet } from './ipv4.ts'
import type { Limits } from './limits.ts'
import { getRules, type Ipv4, ipv4, NETLINK_NETFILTER } from './netlink.ts'
import { inNetwork } from './network-acts.ts'
import type { PluginCall } from './plugin.ts'

const KEYS = [
  'cniVersion',
  'name',
  'type',
  'prevResult',
  'runtimeConfig',
  'backend',
  'ingressPolicy',
]
const CHAIN = 'CNI-FORWARD'
/** What the plugin makes once for all containers. */
const COMMON_RULES = [
  `FORWARD -m comment --comment "CNI firewall plugin rules" -j ${CHAIN}`,
  `${CHAIN} -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN`,
]
/** Where firewalld would be reached, and what has to be there before it may be. */
const BUS = '/run/dbus/system_bus_socket'
const FIREWALLD = [
  '/usr/share/dbus-1/system.d/FirewallD.conf',
  '/etc/dbus-1/system.d/FirewallD.conf',
  '/usr/sbin/firewalld',
  '/usr/bin/firewalld',
]

export interface FirewallPlan {
  readonly version: string
  readonly address: Ipv4
  readonly result: Readonly<Record<string, unknown>>
}

/** Undefined for any setting that is not known here, for firewalld, and for all that the plugin would refuse. */
export function planFirewall(config: Readonly<Record<string, unknown>>): FirewallPlan | undefined {
  const { cniVersion: version, backend, ingressPolicy = 'open', prevResult } = config
  if (!hasOnly(config, KEYS) || !isKnownVersion(version)) return undefined
  if (ingressPolicy !== 'open' || (backend !== undefined && backend !== 'iptables'))
    return undefined
  if (backend === undefined && mayHaveFirewalld()) return undefined
  if (!isPlainResult(prevResult, version)) return undefined
  const [ip, ...more] = prevResult['ips'] as { address: string }[]
  const subnet = parseSubnet(ip?.address)
  if (!subnet || more.length > 0) return undefined
  return { version, address: subnet.address, result: prevResult }
}

/**
 * ADD of the plugin firewall, by iptables of nf_tables, where the chains of all containers stand. Fails without a trace, and then the plugin is to do it.
 */
export async function addToFirewall(
  plan: FirewallPlan,
  call: PluginCall,
  limits: Limits,
): Promise<unknown> {
  const iptables = findIptables()
  if (!iptables?.isNft) throw new Fault('UNIMPLEMENTED', 'iptables is not that of nf_tables')
  const [rules] = await limits.step(() =>
    inNetwork('', [getRules('filter', CHAIN)], NETLINK_NETFILTER),
  )
  // The plugin makes no rule that is there. Whatever holds these four bytes may be one.
  if (rules === undefined || rules.includes(ipv4(plan.address))) {
    throw new Fault('ALREADY_EXISTS', `${CHAIN} may have rules of ${formatIpv4(plan.address)}`)
  }
  const commands = [
    ...COMMON_RULES.map((rule) => `-C ${rule}`),
    ...rulesOf(plan.address).map((rule) => `-A ${rule}`),
  ]
  await limits.step(() => changeRules(iptables, 'filter', commands, call))
  return plan.result
}

/** DEL of the plugin firewall: both rules go, or it fails and nothing has changed. */
export async function deleteFromFirewall(
  plan: FirewallPlan,
  call: PluginCall,
  limits: Limits,
): Promise<void> {
  const iptables = findIptables()
  if (!iptables) throw new Fault('UNIMPLEMENTED', 'there is no iptables that is known here')
  const commands = rulesOf(plan.address).map((rule) => `-D ${rule}`)
  await limits.step(() => changeRules(iptables, 'filter', commands, call))
}

function rulesOf(address: Ipv4): string[] {
  const host = `${formatIpv4(address)}/32`
  return [
    `${CHAIN} -d ${host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `${CHAIN} -s ${host} -j ACCEPT`,
  ]
}

function mayHaveFirewalld(): boolean {
  return existsSync(BUS) && FIREWALLD.some((path) => existsSync(path))
}

/** Whether the plugin would hand a result on as it is: nothing in it that it does not know, and all of the same version. */
function isPlainResult(
  value: unknown,
  version: string,
): value is Readonly<Record<string, unknown>> {
  if (!isObject(value) || value['cniVersion'] !== version) return false
  if (!hasOnly(value, ['cniVersion', 'interfaces', 'ips', 'routes', 'dns'])) return false
  const { interfaces = [], ips = [], routes = [], dns } = value
  const texts = (one: unknown, ...keys: string[]): boolean =>
    isObject(one) &&
    hasOnly(one, keys) &&
    Object.values(one).every((v) => typeof v === 'string' && v !== '')
  return (
    Array.isArray(interfaces) &&
    interfaces.every((one) => texts(one, 'name', 'mac', 'sandbox') && one.name !== undefined) &&
    Array.isArray(ips) &&
    ips.every((one) => isPlainAddress(one, version)) &&
    Array.isArray(routes) &&
    routes.every((one) => texts(one, 'dst', 'gw')) &&
    isObject(dns) &&
    hasOnly(dns, [])
  )
}

function isPlainAddress(value: unknown, version: string): boolean {
  if (!isObject(value) || !hasOnly(value, ['version', 'interface', 'address', 'gateway']))
    return false
  const { interface: index, address, gateway } = value
  return (
    Number.isInteger(index) &&
    parseSubnet(address) !== undefined &&
    (gateway === undefined || parseIpv4(gateway) !== undefined) &&
    value['version'] === (version.startsWith('0.') ? '4' : undefined)
  )
}
