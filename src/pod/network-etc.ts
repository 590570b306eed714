import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname as hostHostname } from 'node:os'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import {
  hostnameFile,
  hostsFile,
  type NetworkResult,
  RESOLV_CONF,
  RESOLVED_CONF,
  resolvFile,
} from '../network/index.ts'
import type { DNSConfig, PodSandboxConfig } from '../spec/cri.ts'
import type { Mappings } from './types.ts'

/** sethostname(2) takes no more. */
const HOSTNAME_BYTES_MAX = 64
const DNS_ENTRIES_MAX = 256
const DNS_ENTRY_LENGTH_MAX = 1024

/** The files of a pod that its containers see in /etc, below the directory that they are written to. */
export const POD_ETC = ['hosts', 'hostname', 'resolv.conf'] as const

export interface PodEtc {
  readonly id: string
  readonly config: PodSandboxConfig
  /** Of the pod's user namespace; undefined where it has none. */
  readonly mappings?: Mappings | undefined
  /** What the network gave; undefined in the host's network. */
  readonly result?: NetworkResult | undefined
  /** Of the pod, the primary first; none in the host's network. */
  readonly addresses: readonly string[]
}

/** Whether the pod is in the host's network namespace (and thereby in its UTS namespace). */
export function isHostNetwork(config: PodSandboxConfig): boolean {
  return config.linux?.securityContext?.namespaceOptions?.network === 'NODE'
}

/** The pod's name for itself. The kubelet sends none for the host's network; a pod of its own always has one. */
export function podHostname(pod: {
  readonly id: string
  readonly config: PodSandboxConfig
}): string {
  const { hostname } = pod.config
  if (hostname === '') return isHostNetwork(pod.config) ? hostHostname() : pod.id.slice(0, 12)
  if (/[^\x21-\x7e]/.test(hostname) || hostname.length > HOSTNAME_BYTES_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${JSON.stringify(hostname)} is no host name: at most ${HOSTNAME_BYTES_MAX} characters, no space`,
    )
  }
  return hostname
}

/**
 * Writes /etc/hosts, /etc/hostname and /etc/resolv.conf as the pod's containers shall see them into `directory`, owned by the pod's root: no mount
 * has to map them. Gives a warning where the pod will resolve no names.
 */
export function writePodEtc(directory: string, pod: PodEtc): string | undefined {
  const host = isHostNetwork(pod.config)
  const hostname = podHostname(pod)
  const resolv = podResolv(pod.config.dnsConfig, { host, result: pod.result })
  const hosts = hostsFile({
    hostname,
    aliases: [],
    addresses: pod.addresses,
    addHosts: [],
    hostFile: host ? readFileSync('/etc/hosts', 'utf8') : undefined,
  })
  mkdirSync(directory, { recursive: true, mode: 0o711 })
  const uid = rootOf(pod.mappings?.uidMappings)
  const gid = rootOf(pod.mappings?.gidMappings)
  const texts = { hosts, hostname: hostnameFile(hostname), 'resolv.conf': resolv.text }
  for (const name of POD_ETC) {
    const path = join(directory, name)
    // Nobody reads them before the pod's record is there.
    writeFileSync(path, texts[name], { mode: 0o644 })
    if (uid !== 0 || gid !== 0) chownSync(path, uid, gid)
  }
  return resolv.warning
}

/**
 * The pod's resolv.conf: what the client gives, and only that; where it gives nothing, what the network or the host has. INVALID_ARGUMENT where an
 * entry would be more than one word: it could write lines of its own.
 */
export function podResolv(
  dns: DNSConfig | null,
  options: { readonly host: boolean; readonly result?: NetworkResult | undefined },
): { text: string; warning?: string } {
  const { servers = [], searches = [], options: words = [] } = dns ?? {}
  if (servers.length + searches.length + words.length === 0) return hostResolv(options)
  if (servers.length + searches.length + words.length > DNS_ENTRIES_MAX) {
    throw new Fault('INVALID_ARGUMENT', `dns_config has more than ${DNS_ENTRIES_MAX} entries`)
  }
  for (const server of servers) {
    if (isIP(server) === 0) throw badDns('server', server, 'no IP address')
  }
  for (const search of searches) checkWord('search', search)
  for (const word of words) checkWord('option', word)
  const lines = [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(words.length > 0 ? [`options ${words.join(' ')}`] : []),
  ]
  return { text: lines.map((line) => `${line}\n`).join('') }
}

function hostResolv(options: {
  readonly host: boolean
  readonly result?: NetworkResult | undefined
}): { text: string; warning?: string } {
  const resolvedFile = readFileIfAny(RESOLVED_CONF)
  const { text, warning } = resolvFile({
    hostFile: readFileIfAny(RESOLV_CONF) ?? '',
    ...(resolvedFile === undefined ? {} : { resolvedFile }),
    ownNetwork: !options.host,
    servers: [],
    searches: [],
    options: [],
    ...(options.result ? { network: options.result.dns } : {}),
  })
  if (warning === undefined) return { text }
  return {
    text,
    warning:
      "the host's name servers are on its loopback, out of the pod's reach, and the pod names none",
  }
}

function checkWord(what: string, word: string): void {
  if (word === '' || /[\s\p{Cc}]/u.test(word)) throw badDns(what, word, 'not one word')
  if (word.length > DNS_ENTRY_LENGTH_MAX) throw badDns(what, word, 'too long')
}

function badDns(what: string, word: string, reason: string): Fault {
  return new Fault(
    'INVALID_ARGUMENT',
    `dns_config: ${what} ${JSON.stringify(word.slice(0, 100))} is ${reason}`,
  )
}

/** The host's id of root in a user namespace: 0 where the pod has none. */
function rootOf(mappings: Mappings['uidMappings'] | undefined): number {
  if (mappings === undefined) return 0
  const mapping = mappings.find((entry) => entry.containerID === 0)
  if (mapping === undefined) throw new Fault('INVALID_ARGUMENT', 'the pod maps no root')
  return mapping.hostID
}
