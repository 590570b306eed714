import { homedir } from 'node:os'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import type { Credentials } from './auth.ts'
import { loginFromHelper } from './credential-helper.ts'
import type { RepositoryName } from './endpoint.ts'
import { parseObject } from './json.ts'
import { DEFAULT_DOMAIN } from './reference.ts'

const AUTH_FILE_BYTES_MAX = 4 * 1024 * 1024
/** docker's key for its own hub. */
const HUB_KEY = 'https://index.docker.io/v1/'
/** registries.conf's word for the files among `credential-helpers`. */
export const FILES_HELPER = 'containers-auth.json'

/** Where docker and podman keep logins, in the order in which they are asked. REGISTRY_AUTH_FILE alone, where it is set, as podman has it. */
export function credentialFiles(environment: NodeJS.ProcessEnv = process.env): string[] {
  const explicit = environment['REGISTRY_AUTH_FILE']
  if (explicit) return [explicit]
  const runtime = environment['XDG_RUNTIME_DIR']
  const config = environment['XDG_CONFIG_HOME'] ?? join(homedir(), '.config')
  return [
    runtime
      ? join(runtime, 'containers/auth.json')
      : `/run/containers/${process.getuid?.() ?? 0}/auth.json`,
    join(config, 'containers/auth.json'),
    dockerConfigFile(environment),
  ]
}

export function dockerConfigFile(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment['DOCKER_CONFIG'] || join(homedir(), '.docker'), 'config.json')
}

/** The keys under which a login for a repository may stand, the most precise first. */
function loginKeys({ domain, path }: RepositoryName): string[] {
  const keys: string[] = []
  const parts = path === '' ? [] : path.split('/')
  for (let n = parts.length; n > 0; n--) keys.push(`${domain}/${parts.slice(0, n).join('/')}`)
  keys.push(domain)
  if (domain === DEFAULT_DOMAIN) keys.push('index.docker.io', 'registry-1.docker.io')
  return keys
}

/** `https://index.docker.io/v1/` is `index.docker.io`: old docker wrote addresses. */
function normalKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '')
}

/** Whether a login kept under this address (`quay.io`, `quay.io/team`, `https://index.docker.io/v1/`) is one for the repository. */
export function isLoginFor(address: string, domain: string, path: string): boolean {
  return loginKeys({ domain, path }).includes(normalKey(address))
}

/** docker's or podman's file of logins, with whatever else is in it; undefined where there is none. PERMISSION_DENIED where it is not for our eyes. */
export function readAuthFile(file: string): Record<string, unknown> | undefined {
  let text: string | undefined
  try {
    text = readFileIfAny(file)
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error
    throw new Fault('PERMISSION_DENIED', `${file} cannot be read by this user`, { cause: error })
  }
  if (text === undefined || text.trim() === '') return undefined
  return parseObject(Buffer.from(text), AUTH_FILE_BYTES_MAX, file)
}

/** The same for whoever only looks for a login: a file of another user holds none. */
export function readAuthFileIfAllowed(file: string): Record<string, unknown> | undefined {
  try {
    return readAuthFile(file)
  } catch (error) {
    if (error instanceof Fault && error.code === 'PERMISSION_DENIED') return undefined
    throw error
  }
}

/** A field's table; empty where there is none. */
export function table(config: Record<string, unknown>, name: string): Record<string, unknown> {
  const value = config[name]
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

/** The keys of `auths` that stand for exactly this registry or namespace. */
export function keysFor(config: Record<string, unknown>, name: RepositoryName): string[] {
  return Object.keys(table(config, 'auths')).filter((key) => isExactly(key, name))
}

/** The names of exactly this registry or namespace; the hub has several. */
export function exactKeys({ domain, path }: RepositoryName): string[] {
  return path === '' ? loginKeys({ domain, path }) : [`${domain}/${path}`]
}

function isExactly(key: string, name: RepositoryName): boolean {
  return exactKeys(name).includes(normalKey(key))
}

/** Under which key a login is kept: docker knows hosts only, podman what is below them too. */
export function storedKey({ domain, path }: RepositoryName): string {
  return path === '' ? serverKey(domain) : `${domain}/${path}`
}

/** What a file's helper may keep for exactly this registry or namespace. */
export function helperKeysFor({ serverKeys }: Helper, name: RepositoryName): string[] {
  return [...new Set([storedKey(name), ...serverKeys.filter((key) => isExactly(key, name))])]
}

/** Where a file has the logins for a server kept. */
export interface Helper {
  readonly helper: string
  /** Named for this server (`credHelpers`) and asked before the file's own logins; else the one for all. */
  readonly isOwn: boolean
  /** What it is asked for, the most precise first. */
  readonly serverKeys: readonly string[]
}

/**
 * The helper that a file names for a server, its own or the one for all. It is asked for the host (docker knows no more) and for those namespaces
 * that have an entry in `auths`, since `logIn` makes one: not every helper bears to be asked for a path.
 */
export function helperFor(
  config: Record<string, unknown>,
  name: RepositoryName,
): Helper | undefined {
  const keys = loginKeys(name)
  const helpers = normalTable(config, 'credHelpers')
  const own = keys.find((key) => isName(helpers.get(key)?.value))
  const of = own === undefined ? undefined : helpers.get(own)
  const helper = of?.value ?? config['credsStore']
  if (!isName(helper)) return undefined
  const auths = normalTable(config, 'auths')
  const base = own ?? name.domain
  const above = keys.slice(0, keys.indexOf(base))
  const asked = above.filter((key) => key.includes('/') && auths.has(key))
  const serverKeys = [...asked, serverKey(base), ...(of === undefined ? [] : [of.key])]
  return { helper, isOwn: own !== undefined, serverKeys: [...new Set(serverKeys)] }
}

/** How docker and its helpers call what stands under a key: hosts of the hub by its address. */
function serverKey(key: string): string {
  return loginKeys({ domain: DEFAULT_DOMAIN, path: '' }).includes(key) ? HUB_KEY : key
}

const isName = (value: unknown): value is string => typeof value === 'string' && value !== ''

/** A table's values and keys as they stand there, by the keys as we compare them. */
function normalTable(
  config: Record<string, unknown>,
  name: string,
): Map<string, { key: string; value: unknown }> {
  const entries = Object.entries(table(config, name))
  return new Map(entries.map(([key, value]) => [normalKey(key), { key, value }]))
}

export interface FindOptions {
  /** Those of the system without. */
  readonly files?: readonly string[]
  /** `credential-helpers` of registries.conf, asked in this order. */
  readonly helpers?: readonly string[] | undefined
}

/** Who keeps logins, in the order in which they are asked: the files, or helpers of registries.conf. */
export function helpersOf(configured: readonly string[] | undefined): readonly string[] {
  return configured === undefined || configured.length === 0 ? [FILES_HELPER] : configured
}

/** The login for a repository: exact path first, then its parents, then the host; undefined for none. */
export async function findCredentials(
  domain: string,
  path: string,
  options: FindOptions = {},
): Promise<Credentials | undefined> {
  for (const helper of helpersOf(options.helpers)) {
    const found =
      helper === FILES_HELPER
        ? await inFiles({ domain, path }, options.files ?? credentialFiles())
        : await byHelper(helper, { domain, path })
    if (found !== undefined) return found
  }
  return undefined
}

async function byHelper(helper: string, name: RepositoryName): Promise<Credentials | undefined> {
  return firstFromHelper(helper, loginKeys(name))
}

async function firstFromHelper(
  helper: string,
  keys: readonly string[],
): Promise<Credentials | undefined> {
  for (const key of keys) {
    const found = await loginFromHelper(helper, key)
    if (found !== undefined) return found
  }
  return undefined
}

async function inFiles(
  name: RepositoryName,
  files: readonly string[],
): Promise<Credentials | undefined> {
  for (const file of files) {
    const config = readAuthFileIfAllowed(file)
    const found = config && (await inFile(config, name, file))
    if (found !== undefined) return found
  }
  return undefined
}

async function inFile(
  config: Record<string, unknown>,
  name: RepositoryName,
  file: string,
): Promise<Credentials | undefined> {
  const kept = helperFor(config, name)
  if (kept?.isOwn) {
    const found = await firstFromHelper(kept.helper, kept.serverKeys)
    if (found !== undefined) return found
  }
  const store = kept?.isOwn ? undefined : kept
  const auths = normalTable(config, 'auths')
  for (const key of loginKeys(name)) {
    const entry = auths.get(key)?.value
    if (typeof entry !== 'object' || entry === null) continue
    const found = loginOf(entry as Record<string, unknown>, file, key)
    if (found !== undefined) return found
    // An entry that says: the helper has it.
    const helped = key.includes('/') && store && (await loginFromHelper(store.helper, key))
    if (helped) return helped
  }
  const host = store?.serverKeys.at(-1)
  return store && host !== undefined ? loginFromHelper(store.helper, host) : undefined
}

function loginOf(
  entry: Record<string, unknown>,
  file: string,
  key: string,
): Credentials | undefined {
  const { auth, username, password, identitytoken, registrytoken } = entry
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    return { kind: 'identity', token: identitytoken }
  }
  if (typeof registrytoken === 'string' && registrytoken !== '') {
    return { kind: 'registry', token: registrytoken }
  }
  if (typeof username === 'string' && typeof password === 'string' && username !== '') {
    return { kind: 'basic', username, password }
  }
  if (typeof auth !== 'string' || auth === '') return undefined
  const pair = Buffer.from(auth, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  if (colon <= 0) throw new Fault('INVALID_ARGUMENT', `${file} holds no valid login for ${key}`)
  // docker pads with NUL bytes.
  return {
    kind: 'basic',
    username: pair.slice(0, colon),
    password: pair.slice(colon + 1).replace(/\0+$/, ''),
  }
}
