import { isAbsolute, join } from 'node:path'
import { parse } from 'smol-toml'
import { parseDuration } from '../base/duration.ts'
import { Fault } from '../base/fault.ts'
import {
  ALL_CAPABILITIES,
  type Capability,
  defaultEndpoint,
  type Endpoint,
  type RepositoryName,
} from './endpoint.ts'

const HOSTS_FILE_LENGTH_MAX = 1024 * 1024
const HOSTS_MAX = 64

interface File {
  readonly file: string
  readonly folder: string
  readonly warn: (message: string) => void
}

function bad(file: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${file}: ${why}`)
}

/**
 * containerd's hosts.toml: mirrors in the order of the file, then the server itself. `folder` is what its relative file names are relative to.
 * Keys that berth does not know are told of by `warn`, since other programs read the file too.
 */
export function parseHosts(
  text: string,
  options: File & { repository: RepositoryName; insecure: readonly string[] },
): Endpoint[] {
  const { file, repository } = options
  if (text.length > HOSTS_FILE_LENGTH_MAX) throw bad(file, 'it is too long')
  let table: Record<string, unknown>
  try {
    table = parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${file} is not valid TOML`, { cause: error })
  }
  const { server, host, ...rest } = table
  const fallback = defaultEndpoint(repository, options.insecure)
  if (server !== undefined && typeof server !== 'string') throw bad(file, 'server must be text')
  const hosts = host === undefined ? [] : Object.entries(entries(host, file, 'host'))
  if (hosts.length > HOSTS_MAX) throw bad(file, `it lists more than ${HOSTS_MAX} hosts`)
  const endpoints = hosts.map(([address, value]) =>
    endpoint(address, entries(value, file, `host.${address}`), { ...options, isMirror: true }),
  )
  // The keys at the top are those of the server itself (containerd's hosts.md).
  const own = endpoint(server ?? fallback.url.origin, rest, { ...options, isMirror: false })
  const isServerListed = endpoints.some((e) => e.url.href === own.url.href)
  const isOwn = (e: Endpoint): boolean => e.url.host === fallback.url.host
  // A mirror is asked with the login for its own host.
  return [...endpoints, ...(isServerListed ? [] : [own])].map((e) =>
    isOwn(e)
      ? { ...e, isMirror: false }
      : { ...e, isMirror: true, repository: { ...repository, domain: e.url.host } },
  )
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
  at: File & { repository: RepositoryName; isMirror: boolean },
): Endpoint {
  const { file, folder } = at
  const { capabilities, ca, client, skip_verify, header, override_path, dial_timeout, ...unknown } =
    fields
  for (const name of Object.keys(unknown)) {
    at.warn(`${file}: berth does not know the key ${name} of ${address}`)
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
    repository: at.repository,
    mayBePlain: false,
    connectMs: dial_timeout === undefined ? undefined : dialTimeout(dial_timeout, file),
    capabilities: capabilities === undefined ? ALL_CAPABILITIES : capabilitySet(capabilities, file),
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

function dialTimeout(value: unknown, file: string): number {
  const ns = typeof value === 'string' ? parseDuration(value) : undefined
  const ms = ns === undefined ? undefined : Number(ns / 1_000_000n)
  if (ms === undefined || ms <= 0) throw bad(file, 'dial_timeout must be a time, such as "5s"')
  return ms
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
