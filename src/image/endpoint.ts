import type { TlsFiles } from './http.ts'
import { PLAIN_TLS } from './http.ts'
import { isLoopback } from './proxy.ts'
import { DEFAULT_DOMAIN, type Reference } from './reference.ts'

export type Capability = 'pull' | 'resolve' | 'push'

/** A repository by its full name. */
export type RepositoryName = Pick<Reference, 'domain' | 'path'>

/** One address at which a repository can be found. */
export interface Endpoint {
  /** With the path before the repository: `https://mirror.example/v2`. */
  readonly url: URL
  /** The repository there, and whose login is shown for it. */
  readonly repository: RepositoryName
  readonly capabilities: ReadonlySet<Capability>
  readonly tls: TlsFiles
  readonly headers: Readonly<Record<string, string>>
  /** It serves other hosts' images too and must be told whose (`?ns=`, containerd's convention). */
  readonly isMirror: boolean
  /** Spoken to by plain HTTP where it does not answer by TLS (`insecure` of registries.conf). */
  readonly mayBePlain: boolean
  /** Milliseconds for the connection, in place of the usual. */
  readonly connectMs: number | undefined
}

export const ALL_CAPABILITIES: ReadonlySet<Capability> = new Set(['pull', 'resolve', 'push'])

/** The registry of a host itself, where no file says otherwise: TLS, but plain HTTP for loopback and for `insecure` hosts. */
export function defaultEndpoint(
  repository: RepositoryName,
  insecure: readonly string[] = [],
): Endpoint {
  const { domain } = repository
  const host = domain === DEFAULT_DOMAIN ? 'registry-1.docker.io' : domain
  const { hostname, port } = new URL(`http://${host}`)
  const isPlain = insecure.includes(domain) || (isLoopback(hostname) && port !== '443')
  return {
    url: new URL(`${isPlain ? 'http' : 'https'}://${host}/v2`),
    repository,
    capabilities: ALL_CAPABILITIES,
    tls: PLAIN_TLS,
    headers: {},
    isMirror: false,
    mayBePlain: false,
    connectMs: undefined,
  }
}
