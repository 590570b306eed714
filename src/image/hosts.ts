import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { parse } from 'smol-toml'
import { Fault } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { isLoopback, PLAIN_TLS, type TlsFiles } from './http.ts'
import { DEFAULT_DOMAIN } from './reference.ts'

const HOSTS_FILE_LENGTH_MAX = 1024 * 1024
const HOSTS_MAX = 64

/** Searched in this order; the first that has something for the host decides. */
export const CERTS_DIRECTORIES: readonly string[] = [
  '/etc/berth/certs.d',
  '/etc/containerd/certs.d',
]

export type Capability = 'pull' | 'resolve' | 'push'

/** One address at which a registry's repositories can be found. */
export interface Endpoint {
  /** With the path before the repository: `https://mirror.example/v2`. */
  readonly url: URL
  readonly capabilities: ReadonlySet<Capability>
  readonly tls: TlsFiles
  readonly headers: Readonly<Record<string, string>>
  /** It serves other hosts' images too and must be told whose (`?ns=`, containerd's convention). */
  readonly isMirror: boolean
}

const ALL: ReadonlySet<Capability> = new Set<Capability>(['pull', 'resolve', 'push'])

function bad(file: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${file}: ${why}`)
}

/** The registry of a host itself, where no file says otherwise: TLS, but plain HTTP for loopback and for `insecure` hosts. */
export function defaultEndpoint(domain: string, insecure: readonly string[] = []): Endpoint {
  const host = domain === DEFAULT_DOMAIN ? 'registry-1.docker.io' : domain
  const { hostname, port } = new URL(`http://${host}`)
  const isPlain = insecure.includes(domain) || (isLoopback(hostname) && port !== '443')
  return {
    url: new URL(`${isPlain ? 'http' : 'https'}://${host}/v2`),
    capabilities: ALL,
    tls: PLAIN_TLS,
    headers: {},
    isMirror: false,
  }
}

/**
 * Where to ask for images of a host, in order: mirrors as its hosts.toml lists them, then the server itself. Read at every pull, so a
 * change needs no restart. Keys that berth does not know are refused by name.
 */
export function endpointsOf(
  domain: string,
  options: { directories?: readonly string[]; insecure?: readonly string[] } = {},
): Endpoint[] {
  const directories = options.directories ?? CERTS_DIRECTORIES
  const folders = [
    ...directories.map((directory) => join(directory, domain)),
    ...directories.map((directory) => join(directory, '_default')),
  ]
  for (const folder of folders) {
    const file = join(folder, 'hosts.toml')
    const text = readFileIfAny(file)
    if (text !== undefined)
      return parseHosts(text, { domain, file, folder, insecure: options.insecure ?? [] })
    // docker's layout: only certificates in the folder.
    if (existsSync(join(folder, 'ca.crt'))) {
      const endpoint = defaultEndpoint(domain, options.insecure)
      const url = new URL(endpoint.url.href.replace(/^http:/, 'https:'))
      return [
        { ...endpoint, url, tls: { ca: [join(folder, 'ca.crt')], client: [], skipVerify: false } },
      ]
    }
  }
  return [defaultEndpoint(domain, options.insecure)]
}

/** containerd's hosts.toml. `folder` is what its relative file names are relative to. */
export function parseHosts(
  text: string,
  options: { domain: string; file: string; folder: string; insecure: readonly string[] },
): Endpoint[] {
  const { file, folder, domain } = options
  if (text.length > HOSTS_FILE_LENGTH_MAX) throw bad(file, 'it is too long')
  let table: Record<string, unknown>
  try {
    table = parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${file} is not valid TOML`, { cause: error })
  }
  const { server, host, ...rest } = table
  const fallback = defaultEndpoint(domain, options.insecure)
  if (server !== undefined && typeof server !== 'string') throw bad(file, 'server must be text')
  const hosts = host === undefined ? [] : Object.entries(entries(host, file, 'host'))
  if (hosts.length > HOSTS_MAX) throw bad(file, `it lists more than ${HOSTS_MAX} hosts`)
  const endpoints = hosts.map(([address, value]) =>
    endpoint(address, entries(value, file, `host.${address}`), { file, folder, isMirror: true }),
  )
  // The keys at the top are those of the server itself (containerd's hosts.md).
  const own = endpoint(server ?? fallback.url.origin, rest, { file, folder, isMirror: false })
  const isServerListed = endpoints.some((e) => e.url.href === own.url.href)
  const isOwn = (e: Endpoint): boolean => e.url.host === fallback.url.host
  return [
    ...endpoints.map((e) => (isOwn(e) ? { ...e, isMirror: false } : e)),
    ...(isServerListed ? [] : [{ ...own, isMirror: !isOwn(own) }]),
  ]
}

function entries(value: unknown, file: string, name: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw bad(file, `${name} must be a table`)
}

function endpoint(
  address: string,
  fields: Record<string, unknown>,
  at: { file: string; folder: string; isMirror: boolean },
): Endpoint {
  const { file, folder } = at
  const { capabilities, ca, client, skip_verify, header, override_path, ...unknown } = fields
  for (const name of Object.keys(unknown)) {
    throw new Fault('UNIMPLEMENTED', `${file}: berth does not know the key ${name} of ${address}`)
  }
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(address) ? address : `https://${address}`
  let url: URL
  try {
    url = new URL(full)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${file}: ${address} is no address`, { cause: error })
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw bad(file, `${address} is neither https nor http`)
  if (url.username !== '' || url.password !== '')
    throw bad(file, `${url.host}: credentials do not belong in an address`)
  for (const [name, value] of [
    ['skip_verify', skip_verify],
    ['override_path', override_path],
  ] as const) {
    if (value !== undefined && typeof value !== 'boolean')
      throw bad(file, `${name} must be true or false`)
  }
  const path = url.pathname.replace(/\/+$/, '')
  url.pathname =
    override_path === true || path === '/v2' || path.endsWith('/v2') ? path : `${path}/v2`
  return {
    url,
    capabilities: capabilities === undefined ? ALL : capabilitySet(capabilities, file),
    tls: {
      ca: files(ca, file, 'ca').map((name) => absolute(folder, name)),
      client: clientPairs(client, file).map((pair) => ({
        certificate: absolute(folder, pair.certificate),
        key: pair.key === '' ? '' : absolute(folder, pair.key),
      })),
      skipVerify: skip_verify === true,
    },
    headers: headerFields(header, file),
    isMirror: at.isMirror,
  }
}

function absolute(folder: string, name: string): string {
  return isAbsolute(name) ? name : join(folder, name)
}

function capabilitySet(value: unknown, file: string): ReadonlySet<Capability> {
  const set = new Set<Capability>()
  for (const name of files(value, file, 'capabilities')) {
    if (name === 'pull' || name === 'resolve' || name === 'push') set.add(name)
    // Referrers are asked of whoever may resolve.
    else if (name !== 'referrers') throw bad(file, `${name} is no capability (pull, resolve, push)`)
  }
  return set
}

function files(value: unknown, file: string, name: string): string[] {
  if (value === undefined) return []
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.map((entry) => {
    if (typeof entry !== 'string' || entry === '')
      throw bad(file, `${name} must be text or a list of text`)
    return entry
  })
}

/** `"both.pem"`, `["a.pem", "b.pem"]` (each with its key inside) or `[["cert.pem", "key.pem"], …]`. */
function clientPairs(value: unknown, file: string): { certificate: string; key: string }[] {
  if (value === undefined) return []
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.map((entry) => {
    const [certificate, key = '', ...more] = files(entry, file, 'client')
    if (certificate === undefined || more.length > 0) {
      throw bad(file, 'client must be a file or pairs of certificate and key')
    }
    return { certificate, key }
  })
}

function headerFields(value: unknown, file: string): Record<string, string> {
  if (value === undefined) return {}
  return Object.fromEntries(
    Object.entries(entries(value, file, 'header')).map(([name, content]) => {
      const text = files(content, file, `header.${name}`).join(', ')
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || /[\r\n\0]/.test(text)) {
        throw bad(file, `header ${JSON.stringify(name)} is no valid HTTP header`)
      }
      return [name.toLowerCase(), text]
    }),
  )
}
