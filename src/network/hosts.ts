import { isIP } from 'node:net'
import { Fault } from '../base/fault.ts'

/** The word for the address at which a container reaches its host (docker's). */
export const HOST_GATEWAY = 'host-gateway'

export interface HostsOptions {
  readonly hostname: string
  /** Further names of the container: its own name, network aliases. */
  readonly aliases: readonly string[]
  /** Its addresses without prefix length; empty where it has no network. */
  readonly addresses: readonly string[]
  /** `NAME:IP` or `NAME=IP`, as --add-host takes it. */
  readonly addHosts: readonly string[]
  /** What HOST_GATEWAY stands for; undefined where there is no such address. */
  readonly gateway?: string | undefined
  /** The host's own file, for a container in the host's network: kept, with addHosts after it. */
  readonly hostFile?: string | undefined
}

/** The text of a container's /etc/hosts. */
export function hostsFile(options: HostsOptions): string {
  const added = options.addHosts.map((entry) => {
    const { name, address } = parseHost(entry)
    return `${hostAddress(address, entry, options.gateway)}\t${name}`
  })
  if (options.hostFile !== undefined) {
    const own = options.hostFile.replace(/\n*$/, '\n')
    return [own === '\n' ? '' : own, ...added.map((line) => `${line}\n`)].join('')
  }
  const names = [...new Set([options.hostname, ...options.aliases])].filter((name) => name !== '')
  // Without a network the name still resolves, as Debian does it, so that programs which look themselves up work.
  const addresses = options.addresses.length > 0 ? options.addresses : ['127.0.1.1']
  const own = names.length === 0 ? [] : addresses.map((ip) => `${ip}\t${names.join(' ')}`)
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::\tip6-localnet',
    'ff00::\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    ...added,
    ...own,
  ]
  return `${lines.join('\n')}\n`
}

/** The parts of an --add-host value. IPv6 may stand in brackets. */
export function parseHost(entry: string): { name: string; address: string } {
  const bad = (reason: string): Fault =>
    new Fault('INVALID_ARGUMENT', `"${entry}" is no NAME:IP for --add-host: ${reason}`)
  const at = entry.search(/[:=]/)
  if (at < 1) throw bad('a name and an address are needed')
  const name = entry.slice(0, at)
  const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
  if (!/^[^\s#]+$/.test(name)) throw bad(`"${name}" is no host name`)
  if (address !== HOST_GATEWAY && isIP(address) === 0) throw bad(`"${address}" is no IP address`)
  return { name, address }
}

/** The text of a container's /etc/hostname. */
export function hostnameFile(hostname: string): string {
  return `${hostname}\n`
}

function hostAddress(address: string, entry: string, gateway: string | undefined): string {
  if (address !== HOST_GATEWAY) return address
  if (gateway !== undefined) return gateway
  throw new Fault(
    'FAILED_PRECONDITION',
    `--add-host ${entry}: this container's network has no gateway that could stand for the host`,
  )
}
