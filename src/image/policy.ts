/** The signature policy: the format of containers-policy.json(5), for the transports that berth has. */
import { dirname, normalize } from 'node:path'
import { Fault } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { type IdentityRule, parseIdentityRule } from './identity.ts'
import { type Fields, isObject, parseObject } from './json.ts'
import { formatReference, type Reference, repositoryOf } from './reference.ts'

/** Read at every pull. Where it is missing every image is accepted. */
export const POLICY_FILE = '/etc/berth/policy.json'
const POLICY_BYTES_MAX = 1024 * 1024
const SCOPES_MAX = 4096
const REQUIREMENTS_MAX = 32
const KEYS_MAX = 32

/** One thing that an image must fulfil; of a list, all. */
export type Requirement =
  | { readonly type: 'insecureAcceptAnything' | 'reject' }
  | {
      readonly type: 'sigstoreSigned'
      /** PEM files, or PEM text itself; a signature by any of them counts. */
      readonly keys: readonly ({ readonly file: string } | { readonly pem: string })[]
      readonly identity: IdentityRule
    }
  /** Well-formed, and berth cannot judge it: whatever it covers is refused. */
  | { readonly type: 'unsupported'; readonly what: string }

export interface Policy {
  /** Who says so, for messages. */
  readonly file: string
  readonly byDefault: readonly Requirement[]
  /** Scopes of the transport `docker`, which is every registry; "" is its own default. */
  readonly registries: Scopes
  readonly archives: Readonly<Record<ArchiveTransport, Scopes>>
}

type Scopes = ReadonlyMap<string, readonly Requirement[]>

/** What `load` reads: an archive with a manifest.json, an archived OCI layout, and a folder with one. */
export const ARCHIVE_TRANSPORTS = ['docker-archive', 'oci-archive', 'oci'] as const
export type ArchiveTransport = (typeof ARCHIVE_TRANSPORTS)[number]

/** The requirements, and which entry of the policy they are: `registry.example/team`, or `default`. */
export interface Chosen {
  readonly requirements: readonly Requirement[]
  readonly scope: string
  readonly file: string
}

/**
 * The policy of a file; undefined where none was named and the node has none. INVALID_ARGUMENT for whatever is not understood: a policy with a
 * misspelt word would protect nothing.
 */
export function readPolicy(file?: string): Policy | undefined {
  const path = file ?? POLICY_FILE
  const text = readFileIfAny(path)
  if (text !== undefined) return parsePolicy(text, path)
  if (file === undefined) return undefined
  throw new Fault('FAILED_PRECONDITION', `there is no signature policy ${file}`)
}

export function parsePolicy(text: string, file: string): Policy {
  const what = `the signature policy ${file}`
  const fields = parseObject(Buffer.from(text), POLICY_BYTES_MAX, what)
  onlyKeys(fields, ['default', 'transports'], what)
  const transports = table(fields['transports'] ?? {}, `transports of ${what}`)
  // Those of other transports, such as podman's storage, say nothing about what berth reads.
  const scopes = (transport: string): Scopes => scopesIn(transports[transport], transport, what)
  const archives = {
    'docker-archive': scopes('docker-archive'),
    'oci-archive': scopes('oci-archive'),
    oci: scopes('oci'),
  }
  for (const transport of ARCHIVE_TRANSPORTS) {
    for (const scope of archives[transport].keys()) checkArchiveScope(transport, scope, what)
  }
  return {
    file,
    byDefault: requirements(fields['default'], `default of ${what}`),
    registries: scopes('docker'),
    archives,
  }
}

function scopesIn(value: unknown, transport: string, what: string): Scopes {
  const scopes = Object.entries(table(value ?? {}, `transports.${transport} of ${what}`))
  if (scopes.length > SCOPES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `${what} has ${scopes.length} scopes; the limit is ${SCOPES_MAX}`,
    )
  }
  return new Map(
    scopes.map(([scope, value]) => [
      scope,
      requirements(value, `the scope ${JSON.stringify(scope)} of ${what}`),
    ]),
  )
}

/** A scope that could never match would protect nothing. */
function checkArchiveScope(transport: ArchiveTransport, scope: string, what: string): void {
  if (scope === '') return
  const text = `the scope ${JSON.stringify(scope)} of transports.${transport} of ${what}`
  if (transport === 'docker-archive') throw bad(text, 'only "" is known there')
  if (scope.includes(':')) throw bad(text, 'berth knows no scope of one image in a layout')
  if (scope !== normalize(scope) || !scope.startsWith('/') || /.\/$/.test(scope)) {
    throw bad(text, 'it must be an absolute path in its shortest form')
  }
}

function bad(what: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${what}: ${why}`)
}

function onlyKeys(fields: Fields, known: readonly string[], what: string): void {
  const unknown = Object.keys(fields).find((key) => !known.includes(key))
  if (unknown !== undefined) throw bad(what, `${JSON.stringify(unknown)} is not known there`)
}

function table(value: unknown, what: string): Fields {
  if (isObject(value)) return value
  throw bad(what, 'it must be an object')
}

function requirements(value: unknown, what: string): Requirement[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw bad(what, 'it must be a list of at least one requirement')
  }
  if (value.length > REQUIREMENTS_MAX) throw bad(what, `more than ${REQUIREMENTS_MAX} requirements`)
  return value.map((entry, i) => requirement(entry, `requirement ${i + 1} of ${what}`))
}

function requirement(value: unknown, what: string): Requirement {
  const fields = table(value, what)
  const { type } = fields
  if (type === 'insecureAcceptAnything' || type === 'reject') {
    onlyKeys(fields, ['type'], what)
    return { type }
  }
  if (type === 'signedBy') return { type: 'unsupported', what: 'signatures of GnuPG (signedBy)' }
  if (type === 'sigstoreSigned') return sigstoreSigned(fields, what)
  throw bad(what, `its type ${JSON.stringify(type)} is none of those known`)
}

const KEY_SOURCES = ['keyPath', 'keyPaths', 'keyData', 'keyDatas']
const REKOR = [
  'rekorPublicKeyPath',
  'rekorPublicKeyPaths',
  'rekorPublicKeyData',
  'rekorPublicKeyDatas',
]

function sigstoreSigned(fields: Fields, what: string): Requirement {
  onlyKeys(fields, ['type', 'signedIdentity', 'fulcio', 'pki', ...KEY_SOURCES, ...REKOR], what)
  const beyond = ['fulcio', 'pki', ...REKOR].find((name) => fields[name] !== undefined)
  if (beyond !== undefined) {
    return { type: 'unsupported', what: `sigstore signatures with ${beyond}` }
  }
  const given = KEY_SOURCES.filter((name) => fields[name] !== undefined)
  const [source] = given
  if (source === undefined || given.length > 1) {
    throw bad(what, `it needs exactly one of ${KEY_SOURCES.join(', ')}`)
  }
  const isList = source.endsWith('s')
  const values: unknown = isList ? fields[source] : [fields[source]]
  if (!Array.isArray(values) || values.length === 0 || values.length > KEYS_MAX) {
    throw bad(what, `${source} must be a list of 1 to ${KEYS_MAX} keys`)
  }
  const isPath = source.startsWith('keyPath')
  return {
    type: 'sigstoreSigned',
    keys: values.map((entry) => (isPath ? keyFile(entry, what) : keyText(entry, what))),
    identity: parseIdentityRule(fields['signedIdentity'], what),
  }
}

function keyFile(value: unknown, what: string): { file: string } {
  if (typeof value === 'string' && value.startsWith('/')) return { file: value }
  throw bad(what, 'a key path must be absolute')
}

function keyText(value: unknown, what: string): { pem: string } {
  if (typeof value === 'string' && /^[A-Za-z0-9+/=\s]+$/.test(value)) {
    return { pem: Buffer.from(value, 'base64').toString('latin1') }
  }
  throw bad(what, 'key data must be a PEM file in base64')
}

/**
 * What an image of a registry must fulfil. The most special scope decides: the image itself, its repository, the folders above, the host, wildcards of its
 * domains, the transport's default, the default of all.
 */
export function requirementsFor(policy: Policy, reference: Reference): Chosen {
  const found = scopesOf(reference).find((scope) => policy.registries.has(scope))
  return {
    requirements: (found !== undefined && policy.registries.get(found)) || policy.byDefault,
    scope: found === undefined ? 'default' : found || 'docker',
    file: policy.file,
  }
}

/** The same of what `load` reads: the file or folder itself (`path` has no links in it; undefined: a stream), the folders above, the transport's default, the default of all. */
export function requirementsForArchive(
  policy: Policy,
  transport: ArchiveTransport,
  path: string | undefined,
): Chosen {
  const known = policy.archives[transport]
  const paths: string[] = []
  for (let at = path; at !== undefined; at = at === '/' ? undefined : dirname(at)) paths.push(at)
  const found = [...paths, ''].find((scope) => known.has(scope))
  return {
    requirements: (found !== undefined && known.get(found)) || policy.byDefault,
    scope: found === undefined ? 'default' : found || transport,
    file: policy.file,
  }
}

function scopesOf(reference: Reference): string[] {
  const scopes = [formatReference(reference)]
  let name = repositoryOf(reference)
  for (;;) {
    scopes.push(name)
    const slash = name.lastIndexOf('/')
    if (slash < 0) break
    name = name.slice(0, slash)
  }
  const host = name.replace(/:\d+$/, '')
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
    scopes.push(`*${host.slice(dot)}`)
  }
  return [...scopes, '']
}
