import { accessSync, constants, statSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { isObject } from './conf.ts'
import { execute } from './program.ts'

export const PLUGIN_DIRECTORIES: readonly string[] = [
  '/opt/cni/bin',
  '/usr/lib/cni',
  '/usr/libexec/cni',
]
export const PLUGIN_TIMEOUT_MS = 60_000
/** Where plugins find the programs that they call. */
export const PATH: readonly string[] = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
]
/** Plugins whose versions are remembered: more than any host has. */
const VERSIONS_KEPT_MAX = 256

/** What Debian's containernetworking-plugins holds. Others come with their network's own installation. */
const STANDARD_PLUGINS =
  /^(bandwidth|bridge|dhcp|dummy|firewall|host-device|host-local|ipvlan|loopback|macvlan|portmap|ptp|sbr|static|tap|tuning|vlan|vrf)$/

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'

export interface PluginCall {
  readonly command: CniCommand
  readonly type: string
  /** Where plugins are looked for, in order; also handed to the plugin for its own delegates (IPAM). */
  readonly directories: readonly string[]
  readonly config: Readonly<Record<string, unknown>>
  readonly containerId?: string
  /** '' for DEL where the namespace is gone. */
  readonly netns?: string
  readonly ifname?: string
  /** `K=V` pairs of CNI_ARGS. */
  readonly args?: readonly string[]
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** What has to end before an address is given back: a DEL that is under way of another plugin of the chain. Never rejects. */
  readonly after?: Promise<void>
}

/** What a plugin itself says of its failure (CNI specification, "Error"). `status` is its code: 7 invalid config, 11 try again later … */
export class PluginFault extends Fault {
  readonly status: number

  constructor(message: string, status: number) {
    // 11: try again later; 50 and 51: STATUS, not available and of limited use.
    super([11, 50, 51].includes(status) ? 'UNAVAILABLE' : 'INTERNAL', message)
    this.status = status
  }
}

/** There is no such plugin on this host. */
export class MissingPlugin extends Fault {
  constructor(type: string, directories: readonly string[]) {
    const how = STANDARD_PLUGINS.test(type)
      ? 'install it (Debian: apt-get install containernetworking-plugins)'
      : 'what installs the network brings it along'
    super(
      'FAILED_PRECONDITION',
      `CNI plugin "${type}" is in none of ${directories.join(', ')}: ${how}`,
    )
  }
}

/** The absolute path of a plugin. MissingPlugin names the package that holds the standard ones. */
export function findPlugin(type: string, directories: readonly string[]): string {
  for (const directory of directories) {
    const path = join(directory, type)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Looked for in the next directory.
    }
  }
  throw new MissingPlugin(type, directories)
}

/**
 * Runs a plugin once and gives its JSON output; undefined where it says nothing. A plugin that fails gives a
 * PluginFault, one that does not end in time is killed with all it started (DEADLINE_EXCEEDED).
 */
export async function callPlugin(call: PluginCall): Promise<unknown> {
  const path = findPlugin(call.type, call.directories)
  const what = `CNI plugin ${call.type} (${call.command})`
  await call.after
  const { code, signal, stdout, stderr } = await execute(path, what, {
    args: [],
    env: environment(call),
    input: JSON.stringify(call.config),
    timeoutMs: call.timeoutMs ?? PLUGIN_TIMEOUT_MS,
    signal: call.signal,
  })
  if (code === 0) {
    const text = stdout.trim()
    return text === '' ? undefined : parse(text, what)
  }
  const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`
  const error = parseError(stdout)
  if (error) {
    const details = error.details === '' ? '' : `: ${error.details}`
    throw new PluginFault(`${what} failed: ${error.message}${details}${said}`, error.code)
  }
  const how = signal === 0 ? `exit status ${code}` : `killed by signal ${signal}`
  throw new PluginFault(`${what} failed without a reason (${how})${said}`, 0)
}

/** By path, as long as the file is the same one. */
const versionsKept = new Map<string, { readonly file: string; readonly versions: string[] }>()

/** The versions of the specification that a plugin knows. Asked once, and again when its program has changed. */
export async function pluginVersions(
  type: string,
  directories: readonly string[],
): Promise<readonly string[]> {
  const path = findPlugin(type, directories)
  const { ino, size, mtimeMs, ctimeMs } = statSync(path)
  const file = `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  const known = versionsKept.get(path)
  if (known?.file === file) return known.versions
  const answer = await callPlugin({
    command: 'VERSION',
    type,
    directories,
    config: { cniVersion: '1.0.0' },
    timeoutMs: 10_000,
  })
  const said = isObject(answer) ? answer['supportedVersions'] : undefined
  // "supportedVersions" is younger than the call: without it the plugin knows the first version only.
  const versions = Array.isArray(said) ? said.filter((v) => typeof v === 'string') : ['0.1.0']
  if (versionsKept.size >= VERSIONS_KEPT_MAX) versionsKept.clear()
  versionsKept.set(path, { file, versions })
  return versions
}

/** Only what the specification names, and a PATH: plugins call iptables by name. */
export function environment(call: PluginCall): string[] {
  const env: Record<string, string> = {
    PATH: PATH.join(':'),
    CNI_COMMAND: call.command,
    CNI_PATH: call.directories.join(':'),
  }
  if (call.containerId !== undefined) env['CNI_CONTAINERID'] = call.containerId
  if (call.netns !== undefined) env['CNI_NETNS'] = call.netns
  if (call.ifname !== undefined) env['CNI_IFNAME'] = call.ifname
  if (call.args !== undefined && call.args.length > 0) env['CNI_ARGS'] = call.args.join(';')
  return Object.entries(env).map(([name, value]) => `${name}=${value}`)
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Fault('INTERNAL', `${what} gave no valid JSON: ${text.slice(0, 200)}`, {
      cause: error,
    })
  }
}

function parseError(
  stdout: string,
): { code: number; message: string; details: string } | undefined {
  try {
    const value: unknown = JSON.parse(stdout)
    if (!isObject(value) || typeof value['msg'] !== 'string') return undefined
    const { code, msg, details } = value
    return {
      code: typeof code === 'number' ? code : 0,
      message: msg,
      details: typeof details === 'string' ? details : '',
    }
  } catch {
    return undefined
  }
}
