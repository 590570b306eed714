import { mkdirSync, realpathSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { lockFile } from '../kernel/lock.ts'
import type { Credentials } from './auth.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { eraseByHelper, type StoredLogin, storeByHelper } from './credential-helper.ts'
import {
  credentialFiles,
  dockerConfigFile,
  helperOf,
  keysFor,
  readAuthFile,
  serverName,
  table,
} from './credentials.ts'
import type { RepositoryName } from './endpoint.ts'
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
 * Asks the registry whether it accepts the login, and keeps it where docker and podman find it: in the helper that the file names, else in the
 * file itself (0600): the first that holds one for this server, else docker's. UNAUTHENTICATED where it is refused: nothing is changed.
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
  const file = fileFor(name)
  let kept = file
  await changeAuthFile(file, async (config) => {
    const key = keyOf(name)
    const helper = helperOf(config, [key, name.domain])
    if (helper !== undefined) await storeByHelper(helper, key, login)
    const auths = { ...table(config, 'auths') }
    for (const old of keysFor(config, name)) delete auths[old]
    const pair = Buffer.from(`${login.username}:${login.password}`).toString('base64')
    // With a helper the empty entry says that there is a login (docker's way).
    auths[key] = helper === undefined ? { auth: pair } : {}
    if (helper !== undefined) kept = `docker-credential-${helper}`
    return { ...config, auths }
  })
  return { server: serverText(name), kept, isPlain: kept === file, isChecked }
}

/** Forgets the login for a server in every file and helper that has it. What it was taken from; nothing where there was none. */
export async function logOut(server: string): Promise<string[]> {
  const name = parseRegistry(server)
  const from: string[] = []
  for (const file of credentialFiles()) {
    const config = readAuthFile(file)
    if (config === undefined) continue
    const key = keyOf(name)
    const helper = helperOf(config, [key, name.domain])
    if (helper !== undefined && (await eraseByHelper(helper, key))) {
      from.push(`docker-credential-${helper}`)
    }
    if (keysFor(config, name).length === 0) continue
    await changeAuthFile(file, async (now) => {
      const auths = { ...table(now, 'auths') }
      for (const old of keysFor(now, name)) delete auths[old]
      return { ...now, auths }
    })
    if (!from.includes(file)) from.push(file)
  }
  return from
}

function serverText({ domain, path }: RepositoryName): string {
  return path === '' ? domain : `${domain}/${path}`
}

/** docker knows hosts only, podman what is below them too. */
function keyOf(name: RepositoryName): string {
  return name.path === '' ? serverName(name.domain) : serverText(name)
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

/** Where a login is asked for first wins: one that stands there already is replaced, not hidden behind. */
function fileFor(name: RepositoryName): string {
  const files = credentialFiles()
  const holding = files.find((file) => keysFor(readAuthFile(file) ?? {}, name).length > 0)
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
