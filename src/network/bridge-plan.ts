/** What the plugin bridge is asked for, where that is what is done here: pure. */
import { isObject } from './conf.ts'
import { hasOnly, type LeasePlan, planLease } from './host-local.ts'

const DEFAULT_BRIDGE = 'cni0'
/** A larger one no device takes. */
const MTU_MAX = 65535
/** What the plugins themselves check; the name becomes a part of a path. */
const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/
const FLAGS = ['isGateway', 'isDefaultGateway', 'ipMasq', 'hairpinMode', 'forceAddress'] as const
const OTHERS = [
  'cniVersion',
  'name',
  'type',
  'bridge',
  'mtu',
  'ipam',
  'runtimeConfig',
  'prevResult',
]

export interface BridgePlan {
  readonly network: string
  readonly version: string
  readonly bridge: string
  readonly mtu: number
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  readonly ipMasq: boolean
  readonly hairpin: boolean
  readonly lease: LeasePlan
}

/** Undefined for any setting that is not known here, and for all that the plugin would refuse. */
export function planBridge(config: Readonly<Record<string, unknown>>): BridgePlan | undefined {
  if (!hasOnly(config, [...OTHERS, ...FLAGS])) return undefined
  const { name, cniVersion, bridge = DEFAULT_BRIDGE, mtu = 0, runtimeConfig = {} } = config
  if (FLAGS.some((flag) => typeof (config[flag] ?? false) !== 'boolean')) return undefined
  if (typeof name !== 'string' || !NETWORK_NAME.test(name)) return undefined
  if (!isKnownVersion(cniVersion)) return undefined
  if (typeof bridge !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(bridge))
    return undefined
  if (typeof mtu !== 'number' || !Number.isInteger(mtu) || mtu < 0 || mtu > MTU_MAX)
    return undefined
  if (config['prevResult'] !== undefined && !isObject(config['prevResult'])) return undefined
  // A fixed address or MAC is the plugin's to give.
  if (!isObject(runtimeConfig) || !hasOnly(runtimeConfig, ['ipRanges'])) return undefined
  const lease = planLease(name, config['ipam'], runtimeConfig['ipRanges'])
  if (!lease) return undefined
  const isDefaultGateway = config['isDefaultGateway'] === true
  return {
    network: name,
    version: cniVersion,
    bridge,
    mtu,
    isGateway: isDefaultGateway || config['isGateway'] === true,
    isDefaultGateway,
    ipMasq: config['ipMasq'] === true,
    hairpin: config['hairpinMode'] === true,
    lease,
  }
}

/** Versions whose results look as they are made here. */
export function isKnownVersion(version: unknown): version is string {
  return ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'].includes(String(version))
}

/** Whether none of the arguments of CNI_ARGS is for the plugins that are done here, and they would not refuse the others. */
export function areArgsIgnored(args: readonly string[]): boolean {
  if (args.length === 0) return true
  return args.includes('IgnoreUnknown=1') && !args.some((arg) => /^(ip|mac)=/i.test(arg))
}
