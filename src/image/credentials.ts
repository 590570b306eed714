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
const FILES_HELPER = 'containers-auth.json'

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

/** How docker and its helpers call a registry. */
export function serverName(domain: string): string {
  return domain === DEFAULT_DOMAIN ? HUB_KEY : domain
}

/** docker's or podman's file of logins, with whatever else is in it; undefined where there is none, or none for our eyes. */
export function readAuthFile(file: string): Record<string, unknown> | undefined {
  let text: string | undefined
  try {
    text = readFileIfAny(file)
  } catch (error) {
    if (isErrno(error, 'EACCES')) return undefined
    throw error
  }
  if (text === undefined || text.trim() === '') return undefined
  return parseObject(Buffer.from(text), AUTH_FILE_BYTES_MAX, file)
}

/** A field's table; empty where there is none. */
export function table(config: Record<string, unknown>, name: string): Record<string, unknown> {
  const value = config[name]
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

/** The keys of `auths` that stand for exactly this registry or namespace. */
export function keysFor(
  config: Record<string, unknown>,
  { domain, path }: RepositoryName,
): string[] {
  const exact = path === '' ? loginKeys({ domain, path }) : [`${domain}/${path}`]
  return Object.keys(table(config, 'auths')).filter((key) => exact.includes(normalKey(key)))
}

/** The helper that a file names for a server: its own, or the one for all. */
export function helperOf(
  config: Record<string, unknown>,
  keys: readonly string[],
): string | undefined {
  const helpers = new Map(Object.entries(table(config, 'credHelpers')))
  const own = keys.map((key) => helpers.get(key)).find((name) => typeof name === 'string')
  const store = config['credsStore']
  const found = own ?? store
  return typeof found === 'string' && found !== '' ? found : undefined
}

export interface FindOptions {
  /** Those of the system without. */
  readonly files?: readonly string[]
  /** `credential-helpers` of registries.conf, asked in this order. */
  readonly helpers?: readonly string[] | undefined
}

/** The login for a repository: exact path first, then its parents, then the host; undefined for none. */
export async function findCredentials(
  domain: string,
  path: string,
  options: FindOptions = {},
): Promise<Credentials | undefined> {
  for (const helper of options.helpers ?? [FILES_HELPER]) {
    const found =
      helper === FILES_HELPER
        ? await inFiles({ domain, path }, options.files ?? credentialFiles())
        : await byHelper(helper, { domain, path })
    if (found !== undefined) return found
  }
  return undefined
}

async function byHelper(helper: string, name: RepositoryName): Promise<Credentials | undefined> {
  for (const key of loginKeys(name)) {
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
    const config = readAuthFile(file)
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
  const keys = loginKeys(name)
  const helpers = new Map(Object.entries(table(config, 'credHelpers')))
  for (const key of keys) {
    const helper = helpers.get(key)
    if (typeof helper === 'string') return loginFromHelper(helper, key)
  }
  const auths = new Map(
    Object.entries(table(config, 'auths')).map(([key, value]) => [normalKey(key), value]),
  )
  for (const key of keys) {
    const entry = auths.get(key)
    if (typeof entry !== 'object' || entry === null) continue
    const found = loginOf(entry as Record<string, unknown>, file, key)
    if (found !== undefined) return found
  }
  const store = config['credsStore']
  if (typeof store !== 'string' || store === '') return undefined
  return loginFromHelper(store, serverName(name.domain))
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
