import { readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import {
  ALL_CAPABILITIES,
  type Capability,
  defaultEndpoint,
  type Endpoint,
  type RepositoryName,
} from './endpoint.ts'
import { parseReference, type Reference } from './reference.ts'

const FILE_LENGTH_MAX = 4 * 1024 * 1024
const FILES_MAX = 256
const REGISTRIES_MAX = 4096
const MIRRORS_MAX = 64

type Fields = Record<string, unknown>
type Warn = (message: string) => void
type When = 'all' | 'digest-only' | 'tag-only'

interface Location {
  /** What takes the prefix's place; '' leaves the name as it is. */
  readonly location: string
  readonly insecure: boolean
}

interface Mirror extends Location {
  readonly when: When
}

interface Registry extends Location {
  /** `quay.io`, `quay.io/team`, `*.example.com`. */
  readonly prefix: string
  readonly file: string
  readonly blocked: boolean
  readonly mirrors: readonly Mirror[]
}

export interface RegistriesConf {
  readonly registries: readonly Registry[]
  /** `credential-helpers`; undefined where no file names any. */
  readonly helpers: readonly string[] | undefined
}

/**
 * Where podman looks for registries.conf: files and folders of drop-ins, each overruling those before it. The user's own file takes the place of
 * the system's.
 */
export function registriesPaths(environment: NodeJS.ProcessEnv = process.env): string[] {
  const own = join(environment['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'containers')
  const system = '/etc/containers'
  const chosen = environment['CONTAINERS_REGISTRIES_CONF']
  const ownFile = join(own, 'registries.conf')
  const hasOwn = readFileIfAny(ownFile) !== undefined
  return [
    chosen || (hasOwn ? ownFile : join(system, 'registries.conf')),
    join(system, 'registries.conf.d'),
    join(own, 'registries.conf.d'),
  ]
}

/**
 * Reads registries.conf version 2 from the paths in order; a `[[registry]]` of a later file replaces one of the same prefix. Version 1 is
 * refused, for what it blocks must not be passed over; keys that berth does not know are told of by `warn`. Short names are docker's business:
 * `unqualified-search-registries`, `short-name-mode` and `[aliases]` change nothing.
 */
export function readRegistries(paths: readonly string[], warn: Warn): RegistriesConf {
  const registries = new Map<string, Registry>()
  let helpers: readonly string[] | undefined
  for (const file of paths.flatMap(filesAt)) {
    const text = readFileIfAny(file)
    if (text === undefined) continue
    const found = parseRegistries(text, file, warn)
    for (const registry of found.registries) registries.set(registry.prefix, registry)
    helpers = found.helpers ?? helpers
  }
  return { registries: [...registries.values()], helpers }
}

/** A folder's drop-ins in the order of their names; any other path is itself. */
function filesAt(path: string): string[] {
  try {
    const names = readdirSync(path).filter((name) => name.endsWith('.conf'))
    if (names.length > FILES_MAX) throw bad(path, `it holds more than ${FILES_MAX} files`)
    return names.sort().map((name) => join(path, name))
  } catch (error) {
    if (isErrno(error, 'ENOTDIR', 'ENOENT')) return [path]
    throw error
  }
}

export function parseRegistries(text: string, file: string, warn: Warn): RegistriesConf {
  if (text.length > FILE_LENGTH_MAX) throw bad(file, 'it is too long')
  let table: Fields
  try {
    table = parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${file} is not valid TOML`, { cause: error })
  }
  const {
    registry = [],
    registries,
    'credential-helpers': helpers,
    'unqualified-search-registries': _search,
    'short-name-mode': _mode,
    aliases: _aliases,
    ...unknown
  } = table
  if (registries !== undefined) {
    throw bad(file, 'it is of version 1 ([registries]); write [[registry]] tables in its place')
  }
  tellUnknown(unknown, file, warn)
  return {
    registries: tables(registry, file, 'registry', REGISTRIES_MAX).map((fields) =>
      registryOf(fields, file, warn),
    ),
    helpers: helpers === undefined ? undefined : texts(helpers, file, 'credential-helpers'),
  }
}

function registryOf(fields: Fields, file: string, warn: Warn): Registry {
  const {
    prefix: givenPrefix,
    location: givenLocation,
    insecure,
    blocked,
    mirror = [],
    'mirror-by-digest-only': byDigestOnly,
    ...unknown
  } = fields
  const location = place(givenLocation, file, 'location')
  const prefix = place(givenPrefix, file, 'prefix') || location
  const name = `registry ${prefix}`
  if (prefix === '') throw bad(file, 'a registry has neither prefix nor location')
  const isWild = prefix.startsWith('*.')
  if (prefix.replace(/^\*\./, '').includes('*')) {
    throw bad(file, `${name}: a wildcard stands only at the beginning, as in *.example.com`)
  }
  if (isWild && givenPrefix === undefined) {
    throw bad(file, `${name}: a wildcard is no location`)
  }
  tellUnknown(unknown, `${file}: ${name}`, warn)
  const digestOnly = flag(byDigestOnly, file, 'mirror-by-digest-only')
  return {
    prefix,
    file,
    location,
    insecure: flag(insecure, file, 'insecure'),
    blocked: flag(blocked, file, 'blocked'),
    mirrors: tables(mirror, file, `${name}.mirror`, MIRRORS_MAX).map((each) =>
      mirrorOf(each, digestOnly, `${file}: ${name}`, warn),
    ),
  }
}

function mirrorOf(fields: Fields, digestOnly: boolean, at: string, warn: Warn): Mirror {
  const { location: given, insecure, 'pull-from-mirror': from, ...unknown } = fields
  tellUnknown(unknown, `${at}: a mirror`, warn)
  const location = place(given, at, 'location of a mirror')
  if (location === '') throw bad(at, 'a mirror has no location')
  if (from !== undefined && digestOnly) {
    throw bad(at, 'mirror-by-digest-only and pull-from-mirror exclude each other')
  }
  if (from !== undefined && from !== 'all' && from !== 'digest-only' && from !== 'tag-only') {
    throw bad(at, 'pull-from-mirror must be all, digest-only or tag-only')
  }
  const when = digestOnly ? 'digest-only' : (from ?? 'all')
  return { location, insecure: flag(insecure, at, 'insecure'), when }
}

/** The addresses that the file gives a name: mirrors, then the registry itself. Undefined where it says nothing of it. PERMISSION_DENIED where it is blocked. */
export function registryEndpoints(
  conf: RegistriesConf,
  reference: Reference,
  insecure: readonly string[],
): Endpoint[] | undefined {
  const name = `${reference.domain}/${reference.path}`
  // A prefix may go on to tag or digest.
  const tagged = `${name}${reference.digest === undefined ? `:${reference.tag}` : `@${reference.digest}`}`
  let best: { registry: Registry; end: number } | undefined
  for (const registry of conf.registries) {
    const end = matchEnd(tagged, registry.prefix)
    const isBetter = best === undefined || registry.prefix.length > best.registry.prefix.length
    if (end !== undefined && isBetter) best = { registry, end }
  }
  if (best === undefined) return undefined
  const { registry, end } = best
  if (registry.blocked) {
    throw new Fault('PERMISSION_DENIED', `${registry.file} blocks ${registry.prefix}: ${name}`)
  }
  const wanted = reference.digest === undefined ? 'tag-only' : 'digest-only'
  const rest = name.slice(Math.min(end, name.length))
  const at = ({ location, insecure: mayBePlain }: Location, may: ReadonlySet<Capability>) =>
    endpointAt(location === '' ? name : location + rest, mayBePlain, may, { registry, insecure })
  return [
    ...registry.mirrors
      .filter(({ when }) => when === 'all' || when === wanted)
      .map((mirror) => at(mirror, PULLING)),
    at(registry, ALL_CAPABILITIES),
  ]
}

/** Nothing is pushed to a mirror. */
const PULLING: ReadonlySet<Capability> = new Set<Capability>(['pull', 'resolve'])

function endpointAt(
  name: string,
  mayBePlain: boolean,
  capabilities: ReadonlySet<Capability>,
  { registry, insecure }: { registry: Registry; insecure: readonly string[] },
): Endpoint {
  const repository = repositoryOf(name, registry)
  const endpoint = { ...defaultEndpoint(repository, insecure), capabilities }
  if (!mayBePlain || endpoint.url.protocol === 'http:') return endpoint
  return { ...endpoint, mayBePlain, tls: { ...endpoint.tls, skipVerify: true } }
}

/** The name as it stands: a location that docker would read as another one (`mirror/x` is on docker.io) is a mistake. */
function repositoryOf(name: string, registry: Registry): RepositoryName {
  let cause: unknown
  try {
    const { domain, path } = parseReference(name)
    if (`${domain}/${path}` === name) return { domain, path }
  } catch (error) {
    cause = error
  }
  const text = `registry ${registry.prefix} leads to ${name}, which is no host and repository`
  throw new Fault('INVALID_ARGUMENT', `${registry.file}: ${text}`, { cause })
}

/** Where the part of a name that the prefix covers ends; undefined where it covers none. */
function matchEnd(name: string, prefix: string): number | undefined {
  let end = prefix.length
  if (prefix.startsWith('*.')) {
    const suffix = prefix.slice(1)
    const at = name.indexOf(suffix)
    if (at <= 0 || name.slice(0, at).includes('/')) return undefined
    end = at + suffix.length
  } else if (!name.startsWith(prefix)) return undefined
  return end === name.length || '/:@'.includes(name.charAt(end)) ? end : undefined
}

// -- fields ----------------------------------------------------------------------------------------------------

function bad(file: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${file}: ${why}`)
}

function tellUnknown(fields: Fields, at: string, warn: Warn): void {
  for (const name of Object.keys(fields)) warn(`${at}: berth does not know the key ${name}`)
}

/** Host, perhaps with a path: no scheme, no slash at the end. */
function place(value: unknown, file: string, name: string): string {
  if (value === undefined) return ''
  if (typeof value !== 'string') throw bad(file, `${name} must be text`)
  if (value.includes('://')) throw bad(file, `${name} ${value} must be without http:// or https://`)
  return value.replace(/\/+$/, '')
}

function flag(value: unknown, file: string, name: string): boolean {
  if (value === undefined) return false
  if (typeof value !== 'boolean') throw bad(file, `${name} must be true or false`)
  return value
}

function texts(value: unknown, file: string, name: string): string[] {
  if (Array.isArray(value) && value.every((each): each is string => typeof each === 'string')) {
    return value
  }
  throw bad(file, `${name} must be a list of text`)
}

function tables(value: unknown, file: string, name: string, max: number): Fields[] {
  const isTable = (each: unknown): each is Fields =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
  if (!Array.isArray(value) || !value.every(isTable)) throw bad(file, `${name} must be tables`)
  if (value.length > max) throw bad(file, `${name}: more than ${max} are listed`)
  return value
}
