import { isObject } from './conf.ts'
import type { CniCommand } from './plugin.ts'

/** What every configuration has. */
const COMMON = ['cniVersion', 'name', 'type', 'prevResult', 'runtimeConfig']

/** Of the standard plugins that only refine what others made: the settings that ask for nothing by themselves, and what a pod may ask for. */
const REFINERS: ReadonlyMap<
  string,
  { readonly harmless: readonly string[]; readonly asked: string }
> = new Map([
  ['portmap', { harmless: ['snat', 'masqAll'], asked: 'portMappings' }],
  ['bandwidth', { harmless: [], asked: 'bandwidth' }],
  ['tuning', { harmless: [], asked: 'mac' }],
])

/**
 * Whether a standard plugin would do nothing and hand on what it was given: a pod without ports passes portmap by, and one without limits bandwidth. Not
 * to start it saves a program for each pod, each way; newer portmaps even run iptables to find out what they would use. A configuration with any setting
 * that we do not know is the plugin's to judge, and so is CHECK.
 */
export function isIdle(
  command: CniCommand,
  config: Readonly<Record<string, unknown>>,
  args: readonly string[],
): boolean {
  const refiner = REFINERS.get(String(config['type']))
  if (!refiner || (command !== 'ADD' && command !== 'DEL')) return false
  // Without a predecessor they refuse ADD; and a DEL that knows of none, after a crash, looks for whatever an ADD may have left.
  if (!isObject(config['prevResult'])) return false
  const { harmless, asked } = refiner
  for (const [name, value] of Object.entries(config)) {
    if (COMMON.includes(name)) continue
    if (!harmless.includes(name) || typeof value !== 'boolean') return false
  }
  const wanted = config['runtimeConfig'] ?? {}
  if (!isObject(wanted) || Object.keys(wanted).some((name) => name !== asked)) return false
  const demand = wanted[asked]
  if (demand !== undefined && !(Array.isArray(demand) && demand.length === 0)) return false
  // tuning takes an address from there, and refuses what it does not know.
  return config['type'] !== 'tuning' || areIgnored(args)
}

function areIgnored(args: readonly string[]): boolean {
  if (args.length === 0) return true
  if (args.some((arg) => /^mac=/i.test(arg))) return false
  return args.includes('IgnoreUnknown=1')
}
