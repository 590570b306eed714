import { chownSync, existsSync, readFileSync } from 'node:fs'
import { hostname as hostHostname } from 'node:os'
import { describe, Fault } from '../base/fault.ts'
import { readFileIfAny, writeFileAtomic } from '../base/file.ts'
import {
  attachedNetworks,
  attachNetwork,
  detachNetworks,
  findNetwork,
  hostnameFile,
  hostsFile,
  type NetworkResult,
  PLUGIN_DIRECTORIES,
  RESOLV_CONF,
  RESOLVED_CONF,
  resolvFile,
} from '../network/index.ts'
import type { Engine } from './open.ts'
import type { RunOptions } from './options.ts'
import { resolveId } from './record.ts'
import { hostnameOf } from './spec.ts'

/** What kind of network namespace --net asks for. */
export type NetworkMode =
  | { readonly kind: 'none' | 'host' }
  | { readonly kind: 'container'; readonly ref: string }
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'cni'; readonly name: string }

/** --net's value; without one, the bridge where the CNI plugins are, else none with a word about it. */
export function networkMode(engine: Engine, options: RunOptions): NetworkMode {
  const mode = modeOf(engine, options)
  if (mode.kind === 'cni') return mode
  if (options.ports.length > 0) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `-p needs a network that can publish ports, such as --net bridge (here: ${options.network ?? 'none'})`,
    )
  }
  if (options.networkAliases.length > 0) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--network-alias needs a CNI network that has names (here: ${options.network ?? 'none'})`,
    )
  }
  return mode
}

function modeOf(engine: Engine, options: RunOptions): NetworkMode {
  const { network } = options
  if (network === undefined || network === 'default') {
    if (hasPlugins()) return { kind: 'cni', name: 'bridge' }
    if (options.ports.length > 0) return { kind: 'cni', name: 'bridge' }
    engine.warn(
      'no CNI plugins on this host, so the container has no network but its loopback; install containernetworking-plugins, or say --net none or --net host',
    )
    return { kind: 'none' }
  }
  if (network === 'none' || network === 'host') return { kind: network }
  if (network.startsWith('container:')) return { kind: 'container', ref: network.slice(10) }
  if (network.startsWith('ns:')) return { kind: 'path', path: network.slice(3) }
  return { kind: 'cni', name: network }
}

const hasPlugins = (): boolean => PLUGIN_DIRECTORIES.some((path) => existsSync(`${path}/bridge`))

/** Attaches a container's network namespace to the named network. Repeated after a crash it takes the old attachment back first. */
export async function attachContainer(
  engine: Engine,
  options: { id: string; name: string; namespace: string; network: string; run: RunOptions },
): Promise<NetworkResult> {
  const { id, run } = options
  await detachContainer(engine, id, { namespaceGone: true })
  const ports = run.ports.map((port) => ({
    hostPort: port.hostPort,
    containerPort: port.containerPort,
    protocol: port.protocol,
    hostIP: port.hostIp,
  }))
  return attachNetwork(engine.at.networks, findNetwork(options.network), {
    containerId: id,
    netns: options.namespace,
    ifname: 'eth0',
    args: ['IgnoreUnknown=1'],
    capabilities: {
      ...(ports.length > 0 ? { portMappings: ports } : {}),
      ...(run.networkAliases.length > 0 ? { aliases: run.networkAliases } : {}),
    },
  })
}

/** Gives addresses and ports back. What a plugin could not do is told, and tried again with the next command on this container. */
export async function detachContainer(
  engine: Engine,
  id: string,
  options: { namespaceGone: boolean },
): Promise<void> {
  const failures = await detachNetworks(engine.at.networks, id, {
    netnsGone: options.namespaceGone,
  })
  for (const failure of failures) {
    engine.warn(
      `the network of container ${id.slice(0, 12)} is not wholly taken down: ${describe(failure)}`,
    )
  }
}

/** The container's addresses on its CNI networks, without prefix length. */
export function addressesOf(engine: Engine, id: string): string[] {
  return attachedNetworks(engine.at.networks, id).flatMap(({ result }) =>
    result.ips.map((ip) => ip.address.split('/')[0] ?? ''),
  )
}

/**
 * Writes /etc/hosts, /etc/hostname and /etc/resolv.conf as the container shall see them, owned by its root (`owner`, host ids): no mount has to map
 * them, which not every file system can.
 */
export function writeEtc(
  engine: Engine,
  options: {
    id: string
    name: string
    run: RunOptions
    mode: NetworkMode
    result: NetworkResult | undefined
    owner: { uid: number; gid: number }
  },
): void {
  const { id, run, mode, result, owner } = options
  const write = (file: string, content: string | Uint8Array): void => {
    const path = engine.at.etc(id, file)
    writeFileAtomic(path, content, { mode: 0o644 })
    chownSync(path, owner.uid, owner.gid)
  }
  if (mode.kind === 'container') {
    // One network, one set of names: as docker and podman do.
    for (const file of ['hosts', 'hostname', 'resolv.conf']) {
      write(file, readFileSync(engine.at.etc(resolveId(engine, mode.ref), file)))
    }
    return
  }
  const own = mode.kind !== 'host'
  const hostname = hostnameOf({ id, options: run })
  const gateway = result?.ips.find((ip) => ip.gateway !== undefined)?.gateway
  write(
    'hostname',
    hostnameFile(run.network === 'host' && run.hostname === undefined ? hostHostname() : hostname),
  )
  write(
    'hosts',
    hostsFile({
      hostname,
      aliases: [options.name, ...run.networkAliases],
      addresses: (result?.ips ?? []).map((ip) => ip.address.split('/')[0] ?? ''),
      addHosts: run.addHosts,
      gateway: gateway ?? (own ? undefined : '127.0.0.1'),
      hostFile: own ? undefined : readFileSync('/etc/hosts', 'utf8'),
    }),
  )
  const resolvedFile = readFileIfAny(RESOLVED_CONF)
  const resolv = resolvFile({
    hostFile: readFileIfAny(RESOLV_CONF) ?? '',
    ...(resolvedFile === undefined ? {} : { resolvedFile }),
    ownNetwork: own,
    servers: run.dns,
    searches: run.dnsSearch,
    options: run.dnsOptions,
    ...(result ? { network: result.dns } : {}),
  })
  if (resolv.warning !== undefined && mode.kind === 'cni') engine.warn(resolv.warning)
  write('resolv.conf', resolv.text)
}
