import { mkdirSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { TEMPORARY, writeFileAtomic } from '../base/file.ts'
import { lockFile } from '../kernel/lock.ts'
import type { Credentials } from './auth.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { eraseByHelper, type StoredLogin, storeByHelper } from './credential-helper.ts'
import {
  credentialFiles,
  dockerConfigFile,
  exactKeys,
  FILES_HELPER,
  helperFor,
  helperKeysFor,
  helpersOf,
  keysFor,
  readAuthFile,
  readAuthFileIfAllowed,
  storedKey,
  table,
} from './credentials.ts'
import type { RepositoryName } from './endpoint.ts'
import { type RegistrySettings, registriesConf } from './endpoints.ts'
import { Retry, retrying } from './http.ts'
import { parseRegistry } from './reference.ts'

const PASSWORD_LENGTH_MAX = 64 * 1024

export interface LoggedIn {
  /** `quay.io`, `quay.io/team`. */
  readonly server: string
  /** Where the login is kept now: a file, or a helper's name. */
  readonly kept: string
  /** In the clear, as base64. */
  readonly isPlain: boolean
  /** False where the registry has not asked for a login. */
  readonly isChecked: boolean
}

/**
 * Asks the registry whether it accepts the login, and keeps it where docker and podman find it: in the first helper of registries.conf, else in
 * the helper that the file names, else in the file itself (0600): the first that holds one for this server, else docker's. UNAUTHENTICATED
 * where it is refused: nothing is changed. PERMISSION_DENIED where the file cannot be read: what else is in it would be lost.
 */
export async function logIn(
  server: string,
  login: StoredLogin,
  options: RegistryOptions & {
    signal?: AbortSignal | undefined
    warn?: (message: string) => void
  } = {},
): Promise<LoggedIn> {
  const name = parseRegistry(server)
  checkPair(login)
  const isChecked = await isAccepted(name, login, options)
  const answer = { server: serverText(name), isChecked }
  const [first = FILES_HELPER] = helpersOf(confHelpers(options))
  if (first !== FILES_HELPER) {
    await storeByHelper(first, serverText(name), login)
    return { ...answer, kept: programOf(first), isPlain: false }
  }
  const file = fileFor(name)
  let kept = file
  await changeAuthFile(file, async (config) => {
    const key = storedKey(name)
    const helper = helperFor(config, name)?.helper
    if (helper !== undefined) await storeByHelper(helper, key, login)
    const auths = { ...table(config, 'auths') }
    for (const old of keysFor(config, name)) delete auths[old]
    const pair = Buffer.from(`${login.username}:${login.password}`).toString('base64')
    // With a helper the empty entry says that there is a login (docker's way).
    auths[key] = helper === undefined ? { auth: pair } : {}
    if (helper !== undefined) kept = programOf(helper)
    return { ...config, auths }
  })
  return { ...answer, kept, isPlain: kept === file }
}

/** Forgets the login for a server in every file and helper that has it. What it was taken from; nothing where there was none. */
export async function logOut(server: string, settings: RegistrySettings = {}): Promise<string[]> {
  const name = parseRegistry(server)
  const from = new Set<string>()
  const erase = async (helper: string, keys: readonly string[]): Promise<void> => {
    for (const key of keys) if (await eraseByHelper(helper, key)) from.add(programOf(helper))
  }
  for (const helper of helpersOf(confHelpers(settings))) {
    if (helper !== FILES_HELPER) await erase(helper, exactKeys(name))
  }
  for (const file of credentialFiles()) {
    const config = readAuthFileIfAllowed(file)
    if (config === undefined) continue
    const found = helperFor(config, name)
    if (found !== undefined) await erase(found.helper, helperKeysFor(found, name))
    if (keysFor(config, name).length === 0) continue
    await changeAuthFile(file, async (now) => {
      const auths = { ...table(now, 'auths') }
      for (const old of keysFor(now, name)) delete auths[old]
      return { ...now, auths }
    })
    from.add(file)
  }
  return [...from]
}

/** Keys that berth does not know are told of by whoever opens a repository. */
function confHelpers(settings: RegistrySettings): readonly string[] | undefined {
  return registriesConf(settings, () => undefined).helpers
}

function programOf(helper: string): string {
  return `docker-credential-${helper}`
}

function serverText({ domain, path }: RepositoryName): string {
  return path === '' ? domain : `${domain}/${path}`
}

function checkPair({ username, password }: StoredLogin): void {
  // RFC 7617, 2: no control characters, and the first colon ends the name.
  if (username === '' || /[\p{Cc}:]/u.test(username)) {
    throw new Fault('INVALID_ARGUMENT', 'a user name is text without colon and control characters')
  }
  if (password === '' || password.length > PASSWORD_LENGTH_MAX || /\p{Cc}/u.test(password)) {
    throw new Fault('INVALID_ARGUMENT', 'the password is empty, too long or has control characters')
  }
}

/** Where a login is asked for first wins: one that stands there already, or in the helper named there, is replaced, not hidden behind. */
function fileFor(name: RepositoryName): string {
  const files = credentialFiles()
  const holding = files.find((file) => {
    const config = readAuthFileIfAllowed(file) ?? {}
    return keysFor(config, name).length > 0 || helperFor(config, name) !== undefined
  })
  if (holding !== undefined) return holding
  const [first = dockerConfigFile()] = files
  return files.length === 1 ? first : dockerConfigFile()
}

async function isAccepted(
  name: RepositoryName,
  login: StoredLogin,
  options: RegistryOptions & {
    signal?: AbortSignal | undefined
    warn?: (message: string) => void
  },
): Promise<boolean> {
  let isAsked = false
  const credentials: Credentials = { kind: 'basic', ...login }
  // No repository is meant, but addresses are those of one.
  const reference = {
    domain: name.domain,
    path: name.path || 'login',
    tag: undefined,
    digest: undefined,
  }
  const warn = options.warn ?? (() => undefined)
  using repository = openRepository(reference, { ...options, credentials }, warn)
  const { target } = repository
  await retrying<true>(
    async () => {
      const answer = await target.ping(options.signal, () => {
        isAsked = true
      })
      if (answer instanceof Retry) return answer
      answer.body.destroy()
      return true
    },
    { signal: options.signal },
  )
  return isAsked
}

/** Changes docker's or podman's file as one step that others see whole, with all else in it kept. Through a link its target is changed. */
async function changeAuthFile(
  file: string,
  change: (config: Record<string, unknown>) => Promise<Record<string, unknown>>,
): Promise<void> {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const path = realPath(file)
  // Another berth may do the same now. The lock goes with its file: whoever waits for it makes it anew.
  using _lock = await lockFile(`${path}.lock`, { exclusive: true })
  try {
    // What a killed one has left holds every login. The lock says that nobody writes it now.
    for (const left of readdirSync(dirname(path))) {
      if (left.startsWith(basename(path) + TEMPORARY)) rmSync(join(dirname(path), left))
    }
    const changed = await change(readAuthFile(path) ?? {})
    writeFileAtomic(path, `${JSON.stringify(changed, null, '\t')}\n`, {
      mode: 0o600,
      durable: true,
    })
  } finally {
    rmSync(`${path}.lock`, { force: true })
  }
}

function realPath(file: string): string {
  try {
    return realpathSync(file)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return file
    throw error
  }
}
