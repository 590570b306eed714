import { isIP } from 'node:net'
import { describe, Fault } from '../base/fault.ts'
import type { Stage } from '../base/stage.ts'
import type { NetworkConf, PluginConf } from './conf.ts'
import { isIdle } from './idle.ts'
import { callInProcess } from './in-process.ts'
import {
  type CniCommand,
  callPlugin,
  findPlugin,
  MissingPlugin,
  PLUGIN_DIRECTORIES,
  type PluginCall,
  PluginFault,
  pluginVersions,
} from './plugin.ts'
import { type NetworkResult, parseResult } from './result.ts'
import { checkVersion, compareVersions, newestCommon } from './version.ts'

/** One container's interface in one network. */
export interface Attachment {
  readonly containerId: string
  /** A path that opens as the network namespace; '' where it is gone (DEL only). */
  readonly netns: string
  readonly ifname: string
  /** `K=V` pairs for CNI_ARGS. */
  readonly args: readonly string[]
  readonly capabilities: CapabilityArgs
}

/** What a plugin gets when it declares the capability of that name. */
export interface CapabilityArgs {
  readonly portMappings?: readonly {
    readonly hostPort: number
    readonly containerPort: number
    readonly protocol: 'tcp' | 'udp' | 'sctp'
    readonly hostIP?: string
  }[]
  readonly aliases?: readonly string[]
  /** With prefix length. */
  readonly ips?: readonly string[]
  readonly mac?: string
  /** Bits per second, and bits. */
  readonly bandwidth?: {
    readonly ingressRate?: number
    readonly ingressBurst?: number
    readonly egressRate?: number
    readonly egressBurst?: number
  }
  readonly dns?: {
    readonly servers?: readonly string[]
    readonly searches?: readonly string[]
    readonly options?: readonly string[]
  }
  readonly ipRanges?: readonly (readonly Readonly<Record<string, unknown>>[])[]
  readonly [capability: string]: unknown
}

export interface ChainOptions {
  readonly directories?: readonly string[]
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** False: also what can be done here is left to the plugins' programs. */
  readonly inProcess?: boolean
  /** Told of each plugin that is called. */
  readonly stage?: Stage
  /** Called with the result so far between the plugins of an ADD; what it throws fails the attachment. */
  readonly progress?: (raw: unknown, version: string) => void
}

/** What an ADD gave: `result` for us, `raw` for the plugins' next call, in `version`. */
export interface Attached {
  readonly result: NetworkResult
  readonly raw: unknown
  readonly version: string
}

/**
 * A failed ADD, and what could not be taken back of it: the failed DEL of plugins whose ADD had succeeded, or was cut off. A plugin that refused ADD
 * itself has nothing to take back, and mostly refuses DEL for the same reason.
 */
export class AddFault extends Fault {
  readonly left: readonly Fault[]

  constructor(subject: string, cause: unknown, failures: readonly Undone[], added: number) {
    const why = describe(cause)
    // A plugin that is missing, or that refuses its configuration, says the same twice.
    const undoing = failures
      .map(({ failure }) => describe(failure))
      .filter((text) => text !== why)
      .map((text) => `; while undoing: ${text}`)
      .join('')
    super(cause instanceof Fault ? cause.code : 'INTERNAL', `${subject}: ${why}${undoing}`, {
      cause,
    })
    // 0: it ended without a word, in the middle of what it did.
    const refused =
      cause instanceof PluginFault ? cause.status !== 0 : cause instanceof MissingPlugin
    const touched = refused ? added : added + 1
    this.left = failures.filter(({ index }) => index < touched).map(({ failure }) => failure)
  }
}

/** A DEL that failed, and its plugin's place in the chain. */
interface Undone {
  readonly index: number
  readonly failure: Fault
}

/**
 * ADD of all plugins in order, each given its predecessor's result. After a failure (an AddFault) DEL of all of them has run, as the
 * specification asks.
 */
export async function addNetwork(
  conf: NetworkConf,
  attachment: Attachment,
  options: ChainOptions = {},
): Promise<Attached> {
  checkAttachment(attachment)
  checkCapabilities(conf, attachment.capabilities)
  const version = await chainVersion(conf, options)
  let raw: unknown
  let added = 0
  try {
    for (const plugin of conf.plugins) {
      const config = pluginConfig(conf, plugin, version, attachment, raw)
      const said = await call('ADD', plugin, config, attachment, options)
      added++
      // Only a plugin that does nothing (0.x chains) may say nothing: then the result so far stands.
      raw = said ?? raw
      if (added < conf.plugins.length) options.progress?.(raw, version)
    }
    const result = parseResult(raw, version, `network ${conf.name}`)
    return { result, raw, version }
  } catch (error) {
    const failures = await deleteAll(conf, version, attachment, raw, { ...options, signal: NEVER })
    const subject = `cannot attach container ${attachment.containerId} to network ${conf.name}`
    throw new AddFault(subject, error, failures, added)
  }
}

/**
 * DEL of all plugins, last first. It always goes through the whole chain; the plugins' failures are returned,
 * one a plugin, and the caller may call again.
 */
export async function deleteNetwork(
  conf: NetworkConf,
  attachment: Attachment,
  attached: { readonly raw: unknown; readonly version: string } | undefined,
  options: ChainOptions = {},
): Promise<Fault[]> {
  const version = attached?.version ?? (await anyVersion(conf, options))
  const failures = await deleteAll(conf, version, attachment, attached?.raw, options)
  return failures.map(({ failure }) => failure)
}

/** CHECK of all plugins in order. Not done where the configuration disables it or is older than CHECK (0.4.0). */
export async function checkNetwork(
  conf: NetworkConf,
  attachment: Attachment,
  attached: { readonly raw: unknown; readonly version: string },
  options: ChainOptions = {},
): Promise<void> {
  if (conf.disableCheck || compareVersions(attached.version, '0.4.0') < 0) return
  for (const plugin of conf.plugins) {
    const config = pluginConfig(conf, plugin, attached.version, attachment, attached.raw)
    await call('CHECK', plugin, config, attachment, options)
  }
}

/** STATUS of all plugins (1.1.0 and newer): a Fault tells why the network cannot take containers. */
export async function networkStatus(conf: NetworkConf, options: ChainOptions = {}): Promise<void> {
  const version = await chainVersion(conf, options)
  if (compareVersions(version, '1.1.0') < 0) return
  for (const plugin of conf.plugins) {
    const config = { ...plugin, name: conf.name, cniVersion: version, capabilities: undefined }
    await callPlugin({
      command: 'STATUS',
      type: plugin.type,
      directories: options.directories ?? PLUGIN_DIRECTORIES,
      config,
      ...limits(options),
    })
  }
}

/** GC of all plugins (1.1.0 and newer): everything but these attachments is debris. Failures are returned. */
export async function collectNetwork(
  conf: NetworkConf,
  valid: readonly { readonly containerID: string; readonly ifname: string }[],
  options: ChainOptions = {},
): Promise<Fault[]> {
  const version = await chainVersion(conf, options)
  if (conf.disableGC || compareVersions(version, '1.1.0') < 0) return []
  const failures: Fault[] = []
  for (const plugin of conf.plugins) {
    const { capabilities: _, ...own } = plugin
    try {
      await callPlugin({
        command: 'GC',
        type: plugin.type,
        directories: options.directories ?? PLUGIN_DIRECTORIES,
        config: {
          ...own,
          name: conf.name,
          cniVersion: version,
          'cni.dev/valid-attachments': valid,
          'cni.dev/attachments': valid,
        },
        ...limits(options),
      })
    } catch (error) {
      failures.push(asFault(error))
    }
  }
  return failures
}

/** The version to speak: the configured one, or of several the newest that every plugin knows. */
export async function chainVersion(conf: NetworkConf, options: ChainOptions): Promise<string> {
  if (conf.cniVersions.length < 2) return checkVersion(conf.cniVersion, `network ${conf.name}`)
  const directories = options.directories ?? PLUGIN_DIRECTORIES
  const types = [...new Set(conf.plugins.map((plugin) => plugin.type))]
  const lists = await Promise.all(types.map((type) => pluginVersions(type, directories)))
  const version = newestCommon([conf.cniVersions, ...lists])
  if (version !== undefined) return version
  const known = types.map((type, i) => `${type}: ${lists[i]?.join(', ')}`).join('; ')
  throw new Fault(
    'FAILED_PRECONDITION',
    `network ${conf.name} offers CNI ${conf.cniVersions.join(', ')}; its plugins share none of them (${known})`,
  )
}

/** For DEL, which goes on where a plugin that would be asked is gone. */
async function anyVersion(conf: NetworkConf, options: ChainOptions): Promise<string> {
  try {
    return await chainVersion(conf, options)
  } catch {
    return conf.cniVersion
  }
}

/** What a plugin reads on stdin: its own part, and what the runtime adds. */
export function pluginConfig(
  conf: NetworkConf,
  plugin: PluginConf,
  version: string,
  attachment: Attachment,
  prevResult: unknown,
): Record<string, unknown> {
  const { capabilities, ...own } = plugin
  const runtimeConfig: Record<string, unknown> = {}
  for (const [name, declared] of Object.entries(capabilities ?? {})) {
    const value = attachment.capabilities[name]
    if (declared && value !== undefined) runtimeConfig[name] = value
  }
  return {
    ...own,
    name: conf.name,
    cniVersion: version,
    ...(Object.keys(runtimeConfig).length > 0 ? { runtimeConfig } : {}),
    ...(prevResult === undefined ? {} : { prevResult }),
  }
}

/** Refuses what no plugin of the chain can do: a published port that nobody maps would be lost silently. */
export function checkCapabilities(conf: NetworkConf, args: CapabilityArgs): void {
  const declares = (name: string): boolean =>
    conf.plugins.some((plugin) => plugin.capabilities?.[name] === true)
  const demands: [name: string, what: string, asked: boolean][] = [
    ['portMappings', 'publish ports', (args.portMappings?.length ?? 0) > 0],
    ['ips', 'give a fixed address', (args.ips?.length ?? 0) > 0],
    ['mac', 'give a fixed MAC address', args.mac !== undefined],
    ['bandwidth', 'limit bandwidth', args.bandwidth !== undefined],
    ['aliases', 'serve network aliases', (args.aliases?.length ?? 0) > 0],
  ]
  for (const [name, what, asked] of demands) {
    if (!asked || declares(name)) continue
    throw new Fault(
      'FAILED_PRECONDITION',
      `network ${conf.name} cannot ${what}: none of its plugins (${conf.plugins.map((p) => p.type).join(', ')}) declares the capability "${name}"`,
    )
  }
}

/** Cleaning up goes on when the caller has gone. */
const NEVER = new AbortController().signal

async function deleteAll(
  conf: NetworkConf,
  version: string,
  attachment: Attachment,
  raw: unknown,
  options: ChainOptions,
): Promise<Undone[]> {
  const failures: Undone[] = []
  // prevResult is for DEL since 0.4.0; older plugins may refuse what they do not know.
  const previous = compareVersions(version, '0.4.0') >= 0 ? raw : undefined
  let underWay = Promise.resolve()
  for (const [index, plugin] of [...conf.plugins.entries()].reverse()) {
    const after = underWay
    const one = async (): Promise<void> => {
      try {
        const config = pluginConfig(conf, plugin, version, attachment, previous)
        await call('DEL', plugin, config, attachment, options, after)
      } catch (error) {
        failures.push({ index, failure: asFault(error) })
      }
    }
    // The kernel takes its time for rules as for links. Whoever has an address again must not meet the rules of the one before: `after`.
    if (plugin.type === 'firewall' && options.inProcess !== false) {
      underWay = Promise.all([after, one()]).then(() => {})
    } else await one()
  }
  await underWay
  return failures.sort((a, b) => b.index - a.index)
}

async function call(
  command: CniCommand,
  plugin: PluginConf,
  config: Record<string, unknown>,
  attachment: Attachment,
  options: ChainOptions,
  after?: Promise<void>,
): Promise<unknown> {
  options.stage?.(`cni ${command} ${plugin.type}`)
  const directories = options.directories ?? PLUGIN_DIRECTORIES
  if (isIdle(command, config, attachment.args)) {
    findPlugin(plugin.type, directories)
    return config['prevResult']
  }
  const asked: PluginCall = {
    command,
    type: plugin.type,
    directories,
    config,
    containerId: attachment.containerId,
    netns: attachment.netns,
    ifname: attachment.ifname,
    args: attachment.args,
    ...limits(options),
    ...(after === undefined ? {} : { after }),
  }
  const done = options.inProcess === false ? undefined : await callInProcess(asked)
  return done ? done.said : callPlugin(asked)
}

function limits(options: ChainOptions): { timeoutMs?: number; signal?: AbortSignal } {
  return {
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  }
}

function checkAttachment(attachment: Attachment): void {
  const { containerId, ifname, netns, args, capabilities } = attachment
  const bad = (reason: string): Fault => new Fault('INVALID_ARGUMENT', reason)
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId)) {
    throw bad(`"${containerId}" is no container id that CNI allows`)
  }
  if (!/^[^/:\s]{1,15}$/.test(ifname) || ifname === '.' || ifname === '..') {
    throw bad(
      `"${ifname}" is no name for a network interface (1 to 15 characters, no /, : or space)`,
    )
  }
  if (netns === '') throw bad(`container ${containerId} has no network namespace to attach`)
  for (const arg of args) {
    if (!/^[^=;]+=[^;]*$/.test(arg)) throw bad(`"${arg}" is no KEY=VALUE for CNI_ARGS`)
  }
  for (const address of capabilities.ips ?? []) {
    if (isIP(address.split('/')[0] ?? '') === 0) throw bad(`"${address}" is no IP address`)
  }
}

function asFault(error: unknown): Fault {
  return error instanceof Fault ? error : new Fault('INTERNAL', describe(error), { cause: error })
}
