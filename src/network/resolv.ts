import { isIP } from 'node:net'

export interface ResolvOptions {
  /** The host's file; '' for none. */
  readonly hostFile: string
  /** systemd-resolved's file with the real servers, where it exists. */
  readonly resolvedFile?: string | undefined
  /** The container is not in the host's network namespace: servers on the host's loopback are out of its reach. */
  readonly ownNetwork: boolean
  /** --dns, --dns-search, --dns-option; each replaces the host's when not empty. A search of '.' means none. */
  readonly servers: readonly string[]
  readonly searches: readonly string[]
  readonly options: readonly string[]
  /** What the network's plugins said; between the user's and the host's. */
  readonly network?: {
    readonly nameservers: readonly string[]
    readonly search: readonly string[]
    readonly options: readonly string[]
    readonly domain?: string
  }
}

/** The host's and systemd-resolved's files. */
export const RESOLV_CONF = '/etc/resolv.conf'
export const RESOLVED_CONF = '/run/systemd/resolve/resolv.conf'

/**
 * The text of a container's /etc/resolv.conf, and a warning for the user where it names no server.
 *
 * With a network of its own the container cannot reach servers on the host's loopback: these lines are left out. Where that
 * leaves none and systemd-resolved runs, the servers behind it are taken. Where there are none either, the file
 * names none: docker then writes 8.8.8.8; berth does not send anybody's names to a third party unasked.
 */
export function resolvFile(options: ResolvOptions): { text: string; warning?: string } {
  let host = parseResolv(options.hostFile)
  const reachable = (servers: readonly string[]): string[] =>
    options.ownNetwork ? servers.filter((server) => !isLoopback(server)) : [...servers]
  if (options.ownNetwork && options.resolvedFile !== undefined && !reachable(host.servers).length) {
    host = parseResolv(options.resolvedFile)
  }
  const { network } = options
  const servers = first(options.servers, network?.nameservers, reachable(host.servers))
  const domain = network?.domain === undefined ? [] : [network.domain]
  const asked = first(options.searches, network?.search, domain, host.searches)
  const searches = asked.filter((search) => search !== '.')
  const opts = first(options.options, network?.options, host.options)
  const lines = [
    ...servers.map((server) => `nameserver ${server}`),
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...(opts.length > 0 ? [`options ${opts.join(' ')}`] : []),
  ]
  const text = lines.map((line) => `${line}\n`).join('')
  if (servers.length > 0 || host.servers.length === 0) return { text }
  return {
    text,
    warning:
      "the host's name servers are on its loopback, out of the container's reach: it will resolve no names (name a server with --dns)",
  }
}

/** The parts of a resolv.conf(5); the last `search` or `domain` counts. */
export function parseResolv(text: string): {
  servers: string[]
  searches: string[]
  options: string[]
} {
  const servers: string[] = []
  let searches: string[] = []
  const options: string[] = []
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/)
    const value = values[0]
    if (keyword === 'nameserver' && value !== undefined) servers.push(value)
    else if (keyword === 'search' || (keyword === 'domain' && value)) searches = values
    else if (keyword === 'options') options.push(...values)
  }
  return { servers, searches, options }
}

/** Whether a server's address is on the loopback; a scope (`::1%lo`) does not hide it. */
export function isLoopback(server: string): boolean {
  const address = server.split('%')[0] ?? ''
  if (isIP(address) === 4) return address.startsWith('127.')
  return /^(0{0,4}:){1,7}0{0,3}1$/.test(address) || /^::ffff:127\./i.test(address)
}

function first(...lists: readonly (readonly string[] | undefined)[]): readonly string[] {
  return lists.find((list) => list !== undefined && list.length > 0) ?? []
}
