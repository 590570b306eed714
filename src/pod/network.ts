import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import type { Stage } from '../base/stage.ts'
import { Turns } from '../base/turns.ts'
import {
  type Attachment,
  attachedContainers,
  attachedNamespace,
  attachedNetworks,
  attachNetwork,
  type BadConf,
  type ChainOptions,
  CONF_DIRECTORY,
  checkNetworks,
  collectNetwork,
  deleteNetwork,
  detachNetworks,
  dropHalfWritten,
  endOrphans,
  forgetNetworks,
  MissingPlugin,
  type NetworkConf,
  NetworkDirectory,
  type NetworkResult,
  PLUGIN_DIRECTORIES,
  PluginFault,
  recordedNetworks,
  setDamagedAside,
} from '../network/index.ts'
import type { PodSandboxConfig } from '../spec/cri.ts'
import { type AddressPreference, orderAddresses, parseCidrs, readCidrs } from './network-address.ts'
import { missingPlugins, type NetworkReadiness, NetworkStatus, notReady } from './network-ready.ts'
import { POD_INTERFACE, podRequest } from './network-request.ts'

export interface NetworksOptions {
  /** Of the records: a file a pod. Made where it is missing. Outlives a reboot, as the pods' records do. */
  readonly directory: string
  readonly confDirectory?: string
  readonly pluginDirectories?: readonly string[]
  /** Of one plugin's call. */
  readonly timeoutMs?: number
  /** Whether standard plugins are done in this process where they can be; true unless it is said. */
  readonly inProcess?: boolean
  readonly addressPreference?: AddressPreference
  /** Record directories of others with containers in the same networks (the command line's): collect() lets theirs be. */
  readonly neighbours?: readonly string[]
  /** Something to log: what was not wholly taken down, another default network. */
  readonly warn: (message: string) => void
}

/** What a pod has from its network. */
export interface PodNetwork {
  readonly network: string
  /** Without prefix length; the primary one first. */
  readonly addresses: readonly string[]
  readonly result: NetworkResult
}

/**
 * The networks of a node's pods. The default one is that of the first usable file of the configuration directory, as it is at the moment of an
 * attach; a pod is detached with the configuration that it was attached with, whatever has become of the file.
 *
 * Calls for one pod are done one after the other.
 */
export class Networks {
  #options: NetworksOptions
  #directory: NetworkDirectory
  #podCidrs: readonly string[] | undefined
  readonly #status = new NetworkStatus()
  #told: string | undefined
  #collecting: Promise<void> | undefined
  /** By pod. */
  readonly #turns = new Turns()

  constructor(options: NetworksOptions) {
    this.#options = options
    this.#directory = this.#watch()
    this.#tell()
  }

  /** Takes other options for all later calls; the directory of records must stay. */
  configure(options: NetworksOptions): void {
    if (options.directory !== this.#options.directory) {
      throw new Fault('INVALID_ARGUMENT', 'the directory of network records cannot change')
    }
    const moved = options.confDirectory !== this.#options.confDirectory
    this.#options = options
    this.#status.forget()
    if (!moved) return
    this.#directory.close()
    this.#directory = this.#watch()
    this.#tell()
  }

  close(): void {
    this.#directory.close()
  }

  /** The network that pods are attached to now. */
  get current(): NetworkConf | undefined {
    return this.#load().conf
  }

  /** The ranges of pod addresses that the client has given to this node (UpdateRuntimeConfig), kept over restarts. */
  get podCidrs(): readonly string[] {
    this.#podCidrs ??= readCidrs(this.#cidrFile)
    return this.#podCidrs
  }

  /** One range or, separated by commas, one of each family. '' changes nothing: the node has none yet. */
  setPodCidr(text: string): void {
    if (text.trim() === '') return
    const cidrs = parseCidrs(text)
    this.#podCidrs = cidrs
    mkdirSync(this.#options.directory, { recursive: true, mode: 0o700 })
    writeFileAtomic(this.#cidrFile, `${JSON.stringify(cidrs)}\n`)
  }

  /** Whether pods can be attached, and why not. Answers within half a second, however long a plugin takes. */
  async ready(): Promise<NetworkReadiness> {
    const { conf, bad } = this.#load()
    const broken = bad.map(({ file, reason }) => `${file} cannot be used: ${reason}`).join('; ')
    if (conf === undefined) {
      return notReady(`no CNI network in ${this.#confDirectory}${broken && `; ${broken}`}`)
    }
    const missing = missingPlugins(conf, this.#pluginDirectories)
    if (missing.length > 0) return notReady(`network ${conf.name}: ${missing.join('; ')}`)
    const failure = await this.#status.of(conf, this.#chain)
    if (failure !== undefined) return notReady(failure)
    return { ready: true, reason: '', message: broken }
  }

  /**
   * Attaches a pod's namespace to the default network. A record of an earlier attempt is taken back first. Killed at any point, detach() takes
   * back what was done.
   */
  async attach(
    pod: { readonly id: string; readonly config: PodSandboxConfig },
    options: { readonly netns: string; readonly signal?: AbortSignal; readonly stage?: Stage },
  ): Promise<PodNetwork> {
    return this.#turns.take(pod.id, async () => {
      const { conf, bad } = this.#load()
      if (conf === undefined) {
        const broken = bad.map(({ file, reason }) => `; ${file}: ${reason}`).join('')
        throw new Fault('UNAVAILABLE', `no CNI network in ${this.#confDirectory}${broken}`)
      }
      const { attachment, undeclared } = podRequest(conf, pod, {
        netns: options.netns,
        podCidrs: this.podCidrs,
      })
      for (const what of undeclared) {
        this.#options.warn(
          `no plugin of network ${conf.name} takes ${what} from berth for pod ${pod.id}`,
        )
      }
      await this.#detachEarlier(pod.id, attachment)
      const { directory } = this.#options
      // Its record is written before it waits for anything: GC sees the record or is waited for.
      while (this.#collecting) await this.#collecting
      const result = await attachNetwork(directory, conf, attachment, {
        ...this.#chain,
        ...(options.signal ? { signal: options.signal } : {}),
        ...(options.stage ? { stage: options.stage } : {}),
      })
      const addresses = orderAddresses(result, this.#preference)
      if (addresses.length === 0) {
        await this.#takeDown(pod.id, { netns: options.netns })
        throw new Fault('INTERNAL', `network ${conf.name} gave pod ${pod.id} no address`)
      }
      return { network: conf.name, addresses, result }
    })
  }

  /**
   * Gives a pod's addresses and ports back; never attached is success. DEL of all plugins has run when this returns or fails, each within its
   * time. What keeps a pod from being deleted is only the failure of a plugin that is there, for a pod that was attached: everything else is
   * told, and tried again by collect() at the next start. `netns` is where the namespace is now, '' where it is gone: the path that it was attached
   * with may by now be that of another pod's.
   */
  async detach(
    id: string,
    options: { readonly netns: string; readonly stage?: Stage },
  ): Promise<void> {
    await this.#turns.take(id, async () => {
      const failures = await this.#takeDown(id, options)
      const [first] = failures
      if (first === undefined) return
      throw new Fault(
        first.code,
        `cannot take down the network of pod ${id}: ${failures.map(describe).join('; ')}`,
      )
    })
  }

  /**
   * What is recorded of others than these pods, at the start of a daemon. Asked before a first pod is made: of one that is just being made there is a record, too.
   */
  leftBeside(pods: readonly string[]): ReadonlySet<string> {
    dropHalfWritten(this.#options.directory)
    const kept = new Set(pods)
    return new Set(attachedContainers(this.#options.directory).filter((id) => !kept.has(id)))
  }

  /** Takes down what is left, and lets plugins that can (CNI 1.1) look for more. Failures are told. */
  async collect(left: ReadonlySet<string>): Promise<void> {
    const { directory } = this.#options
    if (left.size > 0) await endOrphans((id) => left.has(id))
    for (const id of left) {
      const { counted, others } = await this.#turns.take(id, () => this.#delete(id, { netns: '' }))
      const failures = [...counted, ...others]
      for (const failure of failures) this.#tellLeft(id, failure)
      // Of a network that was uninstalled; any other failure may be none at the next start.
      if (failures.every((failure) => failure instanceof MissingPlugin)) {
        forgetNetworks(directory, id)
      }
    }
    while (this.#collecting) await this.#collecting
    this.#collecting = this.#collectGarbage().finally(() => {
      this.#collecting = undefined
    })
    await this.#collecting
  }

  /**
   * CHECK: a Fault says what of a pod's network is not as it was attached. A plugin that crashes has said nothing about the pod (the bandwidth
   * plugin 1.1 does, for a pod without limits): that is told only.
   */
  async check(
    id: string,
    options: { readonly netns: string; readonly stage?: Stage },
  ): Promise<void> {
    const { directory } = this.#options
    try {
      await this.#turns.take(id, () => checkNetworks(directory, id, { ...this.#chain, ...options }))
    } catch (error) {
      if (!(error instanceof PluginFault) || error.status !== 0) throw error
      const [reason] = describe(error).split('\n', 1)
      this.#options.warn(`the network of pod ${id} cannot be checked: ${reason}`)
    }
  }

  /** What a pod has, from its record; undefined where it is not attached. */
  of(id: string): PodNetwork | undefined {
    const [first] = attachedNetworks(this.#options.directory, id)
    if (first === undefined) return undefined
    const { network, result } = first
    return { network, addresses: orderAddresses(result, this.#preference), result }
  }

  get #chain(): ChainOptions {
    const { timeoutMs, inProcess = true } = this.#options
    return {
      directories: this.#pluginDirectories,
      inProcess,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    }
  }

  get #pluginDirectories(): readonly string[] {
    return this.#options.pluginDirectories ?? PLUGIN_DIRECTORIES
  }

  get #confDirectory(): string {
    return this.#options.confDirectory ?? CONF_DIRECTORY
  }

  get #preference(): AddressPreference {
    return this.#options.addressPreference ?? 'ipv4'
  }

  get #cidrFile(): string {
    return join(this.#options.directory, 'pod-cidr.json')
  }

  #watch(): NetworkDirectory {
    return new NetworkDirectory(this.#confDirectory, () => this.#tell())
  }

  #load(): { conf: NetworkConf | undefined; bad: readonly BadConf[] } {
    try {
      const { networks, bad } = this.#directory.load()
      // A loopback alone gives no pod an address: guides for Kubernetes used to put such a file beside the real one.
      const conf = networks.find(({ plugins }) => plugins.some(({ type }) => type !== 'loopback'))
      return { conf, bad }
    } catch (error) {
      // Not readable at all: no reason for a daemon to end.
      return { conf: undefined, bad: [{ file: this.#confDirectory, reason: describe(error) }] }
    }
  }

  /** Says it where the default network has changed. */
  #tell(): void {
    const { conf, bad } = this.#load()
    const parts = [
      conf
        ? `pods are now attached to network ${conf.name} of ${conf.file}`
        : `there is no CNI network in ${this.#confDirectory} any more`,
      ...bad.map(({ file, reason }) => `${file} cannot be used: ${reason}`),
    ]
    const told = JSON.stringify([conf, parts])
    if (told !== this.#told && this.#told !== undefined) this.#options.warn(parts.join('; '))
    this.#told = told
  }

  /** Takes back what an attach that did not end has left. */
  async #detachEarlier(id: string, attachment: Attachment): Promise<void> {
    const { directory } = this.#options
    if (!attachedContainers(directory).includes(id)) return
    // Another namespace's path may by now be that of somebody else's.
    const same = attachedNamespace(directory, id) === attachment.netns
    const failures = await this.#takeDown(id, { netns: same ? attachment.netns : '' })
    if (failures[0]) throw failures[0]
  }

  /** DEL of what is recorded for a pod. Gives the failures that count; tells the others. */
  async #takeDown(
    id: string,
    options: { readonly netns: string; readonly stage?: Stage },
  ): Promise<Fault[]> {
    const { counted, others } = await this.#delete(id, options)
    for (const failure of others) this.#tellLeft(id, failure)
    return counted
  }

  async #delete(
    id: string,
    options: { readonly netns: string; readonly stage?: Stage },
  ): Promise<{ counted: Fault[]; others: Fault[] }> {
    const { directory } = this.#options
    const others: Fault[] = []
    for (const path of setDamagedAside(directory, id)) {
      this.#options.warn(`${path} is damaged: its pod is detached by the network as it is now`)
      others.push(...(await this.#deleteBlindly(id)))
    }
    const attached = attachedNetworks(directory, id).length > 0
    const failures = await detachNetworks(directory, id, { ...this.#chain, ...options })
    const counts = (failure: Fault): boolean => attached && !(failure instanceof MissingPlugin)
    others.push(...failures.filter((failure) => !counts(failure)))
    return { counted: failures.filter(counts), others }
  }

  /** DEL without a record: all that plugins need to find a container's leases and rules is its id. */
  async #deleteBlindly(id: string): Promise<Fault[]> {
    const { conf } = this.#load()
    if (conf === undefined) return []
    return deleteNetwork(
      conf,
      {
        containerId: id,
        netns: '',
        ifname: POD_INTERFACE,
        args: ['IgnoreUnknown=1'],
        capabilities: {},
      },
      undefined,
      this.#chain,
    )
  }

  /** GC of all but what is recorded. */
  async #collectGarbage(): Promise<void> {
    const { directory, neighbours = [] } = this.#options
    const valid = [directory, ...neighbours]
      .flatMap((path) => attachedContainers(path))
      .map((containerID) => ({ containerID, ifname: POD_INTERFACE }))
    for (const conf of this.#collectable()) {
      for (const failure of await this.#gc(conf, valid)) {
        this.#options.warn(`garbage of network ${conf.name} is not collected: ${describe(failure)}`)
      }
    }
  }

  /** The default network and those of records, each name once. */
  #collectable(): NetworkConf[] {
    const { conf } = this.#load()
    const found = new Map<string, NetworkConf>()
    for (const network of [...(conf ? [conf] : []), ...recordedNetworks(this.#options.directory)]) {
      if (!found.has(network.name)) found.set(network.name, network)
    }
    return [...found.values()]
  }

  async #gc(
    conf: NetworkConf,
    valid: readonly { containerID: string; ifname: string }[],
  ): Promise<readonly Fault[]> {
    try {
      return await collectNetwork(conf, valid, this.#chain)
    } catch (error) {
      return [error instanceof Fault ? error : new Fault('INTERNAL', describe(error))]
    }
  }

  #tellLeft(id: string, failure: Fault): void {
    this.#options.warn(`the network of pod ${id} is not wholly taken down: ${describe(failure)}`)
  }
}
