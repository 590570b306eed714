import { Fault } from '../base/fault.ts'
import type { Digest } from '../spec/image.ts'
import { digestIn } from './digest.ts'

/** distribution's limit for a name without tag and digest. */
const NAME_LENGTH_MAX = 255
/** Longer than any legal reference: a name, a tag of 128 and a sha512 digest. */
const REFERENCE_LENGTH_MAX = 640

export const DEFAULT_DOMAIN = 'docker.io'
export const DEFAULT_TAG = 'latest'

/** A name in full: nothing in it is left to a default. With a digest the tag says nothing about the content. */
export interface Reference {
  /** `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string
  /** `library/nginx`. */
  readonly path: string
  readonly tag: string | undefined
  readonly digest: Digest | undefined
}

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const LABEL = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
const DOMAIN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]{1,5})?$`)

function illegal(text: string, why: string): Fault {
  return new Fault(
    'INVALID_ARGUMENT',
    `${JSON.stringify(text.slice(0, REFERENCE_LENGTH_MAX))} is not an image name: ${why}`,
  )
}

/** Whether the part before the first slash is a host (docker's rule), not the first part of a path. */
function isDomain(part: string): boolean {
  return (
    /[.:[]/.test(part) || part === 'localhost' || (part !== part.toLowerCase() && DOMAIN.test(part))
  )
}

/** Splits off `@digest`, then `:tag`. A colon before the last slash belongs to the host's port. */
function splitReference(text: string): { name: string; tag?: string; digest?: Digest } {
  const at = text.indexOf('@')
  let name = at < 0 ? text : text.slice(0, at)
  let digest: Digest | undefined
  if (at >= 0) {
    digest = digestIn(text.slice(at + 1))
    if (digest === undefined) {
      throw illegal(text, 'what follows "@" is no sha256 or sha512 digest in lower case')
    }
  }
  const colon = name.lastIndexOf(':')
  let tag: string | undefined
  if (colon > name.lastIndexOf('/')) {
    tag = name.slice(colon + 1)
    name = name.slice(0, colon)
    if (!TAG.test(tag)) {
      throw illegal(
        text,
        'a tag is 1 to 128 letters, digits, "_", "." and "-", and begins with none of the last two',
      )
    }
  }
  return {
    name,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  }
}

/**
 * Docker's reading of a name: `nginx` is `docker.io/library/nginx:latest`. With both, the digest decides and the tag is kept
 * only for show. INVALID_ARGUMENT says what is wrong with an illegal one.
 */
export function parseReference(text: string): Reference {
  const named = parseNamed(text)
  const isBare = named.tag === undefined && named.digest === undefined
  return isBare ? { ...named, tag: DEFAULT_TAG } : named
}

/** The same, but a tag that is not there is not `latest`. */
export function parseNamed(text: string): Reference {
  if (text === '') throw illegal(text, 'it is empty')
  if (text.length > REFERENCE_LENGTH_MAX) {
    throw illegal(text, `it is longer than ${REFERENCE_LENGTH_MAX} characters`)
  }
  if (/^[0-9a-f]{64}$/.test(text)) throw illegal(text, '64 hexadecimal digits are an image id')
  const { name, tag, digest } = splitReference(text)
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  let domain = DEFAULT_DOMAIN
  let path = name
  if (slash >= 0 && isDomain(first)) {
    domain = first
    path = name.slice(slash + 1)
    checkDomain(text, domain)
  }
  if (domain === 'index.docker.io') domain = DEFAULT_DOMAIN
  checkPath(text, path)
  if (domain === DEFAULT_DOMAIN && !path.includes('/')) path = `library/${path}`
  if (domain.length + 1 + path.length > NAME_LENGTH_MAX) {
    throw illegal(text, `host and path together are longer than ${NAME_LENGTH_MAX} characters`)
  }
  return { domain, path, tag, digest }
}

/** A registry as people name it to log in: `quay.io`, `https://q.io/v2/`, or podman's `quay.io/team`. INVALID_ARGUMENT. */
export function parseRegistry(text: string): Pick<Reference, 'domain' | 'path'> {
  const bare = text.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '')
  const [domain = '', ...rest] = bare.split('/')
  if (text.length > REFERENCE_LENGTH_MAX || domain === '') throw illegal(text, 'it names no host')
  checkDomain(text, domain)
  const path = rest.join('/')
  if (path !== '') checkPath(text, path)
  const isHub = domain === 'index.docker.io' || domain === 'registry-1.docker.io'
  return { domain: isHub ? DEFAULT_DOMAIN : domain, path }
}

function checkDomain(text: string, domain: string): void {
  if (!DOMAIN.test(domain))
    throw illegal(text, `${JSON.stringify(domain)} is no host name with port`)
  const port = /:([0-9]+)$/.exec(
    domain.startsWith('[') ? domain.slice(domain.indexOf(']')) : domain,
  )
  if (port !== null && Number(port[1]) > 65535) throw illegal(text, `${port[1]} is no port`)
  if (domain.startsWith('[') && !URL.canParse(`http://${domain}/`)) {
    throw illegal(text, `${JSON.stringify(domain)} is no IPv6 address`)
  }
}

function checkPath(text: string, path: string): void {
  if (path !== path.toLowerCase()) throw illegal(text, 'the repository must be in lower case')
  for (const component of path.split('/')) {
    if (COMPONENT.test(component)) continue
    throw illegal(
      text,
      component === ''
        ? 'a part of the repository is empty'
        : `${JSON.stringify(component)} must be lower-case letters and digits, joined by ".", "_", "__" or "-"`,
    )
  }
}

/** `docker.io/library/nginx`. */
export function repositoryOf(ref: Reference): string {
  return `${ref.domain}/${ref.path}`
}

/** The one full spelling under which the catalog knows the name: the digest where there is one, else the tag. */
export function formatReference(ref: Reference): string {
  return ref.digest === undefined
    ? `${repositoryOf(ref)}:${ref.tag ?? DEFAULT_TAG}`
    : `${repositoryOf(ref)}@${ref.digest}`
}

/** What people write and read: `docker.io/` and `library/` taken away. */
export function familiarName(name: string): string {
  if (!name.startsWith(`${DEFAULT_DOMAIN}/`)) return name
  const path = name.slice(DEFAULT_DOMAIN.length + 1)
  const short = path.startsWith('library/') ? path.slice('library/'.length) : path
  // `docker.io/library/a/b` cannot be written short: `a/b` is another image.
  const familiar = short.includes('/') && short !== path ? path : short
  // Nor can `docker.io/a.b/c`: `a.b` would be a host.
  const slash = familiar.indexOf('/')
  return slash >= 0 && isDomain(familiar.slice(0, slash)) ? name : familiar
}
