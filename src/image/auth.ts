import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { chunksOf, type Http, isLoopback, readAtMost, type TlsFiles } from './http.ts'
import { parseObject } from './json.ts'

const TOKEN_BYTES_MAX = 1024 * 1024
const AUTH_FILE_BYTES_MAX = 4 * 1024 * 1024
const HELPER_OUTPUT_BYTES_MAX = 64 * 1024
const HELPER_TIMEOUT_MS = 30_000
const CHALLENGE_LENGTH_MAX = 8192
/** A token that names no life lives this long (distribution's token specification). */
const TOKEN_LIFE_S = 60
/** A token this near its end is not used any more. */
const TOKEN_MARGIN_MS = 5_000

/** An identity token is exchanged for access tokens by OAuth 2; a registry token is one. */
export type Credentials =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity'; readonly token: string }
  | { readonly kind: 'registry'; readonly token: string }

// -- challenges --------------------------------------------------------------------------------------------

export interface Challenge {
  readonly scheme: 'basic' | 'bearer'
  readonly parameters: Readonly<Record<string, string>>
}

/** The Basic and Bearer challenges of a WWW-Authenticate header (RFC 9110, 11.6.1); unknown schemes are skipped. */
export function parseChallenges(header: string): Challenge[] {
  if (header.length > CHALLENGE_LENGTH_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      'a registry sent a WWW-Authenticate header that is too long',
    )
  }
  const challenges: Challenge[] = []
  const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
  let at = 0
  let parameters: Record<string, string> | undefined
  const take = (): string => {
    token.lastIndex = at
    const match = token.exec(header)
    if (match === null) return ''
    at += match[0].length
    return match[0]
  }
  const skip = (characters: string): void => {
    while (at < header.length && characters.includes(header.charAt(at))) at++
  }
  for (;;) {
    skip(' \t,')
    const word = take()
    if (word === '') return challenges
    skip(' \t')
    if (header.charAt(at) === '=') {
      at++
      skip(' \t')
      const value = header.charAt(at) === '"' ? quoted() : take()
      if (parameters !== undefined) parameters[word.toLowerCase()] = value
      continue
    }
    parameters = Object.create(null) as Record<string, string>
    const scheme = word.toLowerCase()
    if (scheme === 'basic' || scheme === 'bearer') challenges.push({ scheme, parameters })
  }
  function quoted(): string {
    let text = ''
    for (at++; at < header.length && header.charAt(at) !== '"'; at++) {
      if (header.charAt(at) === '\\') at++
      text += header.charAt(at)
    }
    at++
    return text
  }
}

// -- one registry's authorisation ------------------------------------------------------------------------------

/**
 * What berth shows one registry. Nothing is sent before the registry asks; an answer to its challenge is kept for
 * each scope until shortly before its end.
 */
export class Authorizer {
  readonly #http: Http
  readonly #credentials: () => Promise<Credentials | undefined>
  readonly #tls: TlsFiles
  readonly #origin: URL
  #known: Promise<Credentials | undefined> | undefined
  #basic: string | undefined
  readonly #tokens = new Map<string, { token: string; endsMs: number }>()

  constructor(options: {
    http: Http
    origin: URL
    tls: TlsFiles
    credentials: () => Promise<Credentials | undefined>
  }) {
    this.#http = options.http
    this.#origin = options.origin
    this.#tls = options.tls
    this.#credentials = options.credentials
  }

  /** The Authorization header for a scope, as far as it is known without asking. */
  header(scope: string): string | undefined {
    const kept = this.#tokens.get(scope)
    if (kept !== undefined && kept.endsMs > performance.now()) return `Bearer ${kept.token}`
    return this.#basic
  }

  /**
   * Answers a 401. False: there is nothing (more) to offer. `refused` is the header that was sent and not accepted.
   */
  async answer(options: {
    challenges: readonly Challenge[]
    scope: string
    refused: string | undefined
    signal: AbortSignal | undefined
  }): Promise<boolean> {
    this.#known ??= this.#credentials()
    const credentials = await this.#known
    const bearer = options.challenges.find((challenge) => challenge.scheme === 'bearer')
    if (credentials?.kind === 'registry') {
      const header = `Bearer ${credentials.token}`
      if (options.refused === header) return false
      this.#tokens.set(options.scope, {
        token: credentials.token,
        endsMs: Number.POSITIVE_INFINITY,
      })
      return true
    }
    if (bearer !== undefined) {
      this.#tokens.delete(options.scope)
      const kept = await this.#fetchToken(bearer, options.scope, credentials, options.signal)
      if (`Bearer ${kept.token}` === options.refused) return false
      this.#tokens.set(options.scope, kept)
      return true
    }
    if (options.challenges.length > 0 && credentials?.kind === 'basic') {
      const header = basicHeader(credentials)
      if (options.refused === header) return false
      this.#basic = header
      return true
    }
    return false
  }

  async #fetchToken(
    challenge: Challenge,
    scope: string,
    credentials: Credentials | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ token: string; endsMs: number }> {
    const realm = this.#realm(challenge)
    const service = challenge.parameters['service']
    // The registry may ask for more than this request needs (its own words win), but a pull asks for no more than pull.
    const scopes = challenge.parameters['scope'] ?? scope
    const from =
      realm.origin === this.#origin.origin
        ? this.#tls
        : { ca: this.#tls.ca, client: [], skipVerify: this.#tls.skipVerify }
    const isIdentity = credentials?.kind === 'identity'
    if (!isIdentity) {
      if (service !== undefined) realm.searchParams.set('service', service)
      for (const one of scopes.split(' ')) if (one !== '') realm.searchParams.append('scope', one)
      if (credentials?.kind === 'basic') realm.searchParams.set('account', credentials.username)
    }
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      service: service ?? '',
      client_id: 'berth',
      scope: scopes,
      ...(isIdentity ? { refresh_token: credentials.token } : {}),
    })
    const answer = await this.#http.send({
      method: isIdentity ? 'POST' : 'GET',
      url: realm,
      headers: {
        accept: 'application/json',
        ...(isIdentity ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
        ...(credentials?.kind === 'basic' ? { authorization: basicHeader(credentials) } : {}),
      },
      ...(isIdentity ? { body: form.toString() } : {}),
      tls: from,
      signal,
    })
    const what = `the token of ${realm.host}`
    const bytes = await readAtMost(chunksOf(answer), TOKEN_BYTES_MAX, what)
    if (answer.status === 401 || answer.status === 403 || answer.status === 400) {
      throw new Fault(
        'UNAUTHENTICATED',
        credentials === undefined
          ? `${realm.host} gives no token without credentials: log in to ${this.#origin.host} first`
          : `${realm.host} does not accept the credentials for ${this.#origin.host}`,
      )
    }
    if (answer.status !== 200) {
      throw new Fault(
        'UNAVAILABLE',
        `${realm.host} answers a token request with status ${answer.status}`,
      )
    }
    const fields = parseObject(bytes, TOKEN_BYTES_MAX, what)
    const token = fields['token'] ?? fields['access_token']
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      throw new Fault('UNAVAILABLE', `${realm.host} answers a token request without a token`)
    }
    const given = fields['expires_in']
    const lifeS =
      typeof given === 'number' && given > 0 ? Math.max(given, TOKEN_LIFE_S) : TOKEN_LIFE_S
    return { token, endsMs: performance.now() + lifeS * 1000 - TOKEN_MARGIN_MS }
  }

  #realm(challenge: Challenge): URL {
    const text = challenge.parameters['realm'] ?? ''
    let realm: URL
    try {
      realm = new URL(text, this.#origin)
    } catch (error) {
      throw new Fault('UNAVAILABLE', `${this.#origin.host} names no valid token server`, {
        cause: error,
      })
    }
    // A password never goes in the clear over the network because a registry says so.
    const isSafe =
      realm.protocol === 'https:' || this.#origin.protocol === 'http:' || isLoopback(realm.hostname)
    if (!isSafe || (realm.protocol !== 'https:' && realm.protocol !== 'http:')) {
      throw new Fault(
        'PERMISSION_DENIED',
        `${this.#origin.host} names a token server without TLS: ${realm.host}`,
      )
    }
    return realm
  }
}

export function basicHeader(credentials: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`
}

// -- credentials on disk ------------------------------------------------------------------------------------------

/** Where docker and podman keep logins, in the order in which they are asked. */
export function credentialFiles(environment: NodeJS.ProcessEnv = process.env): string[] {
  const explicit = environment['REGISTRY_AUTH_FILE']
  const runtime = environment['XDG_RUNTIME_DIR']
  const config = environment['XDG_CONFIG_HOME'] ?? join(homedir(), '.config')
  return [
    ...(explicit ? [explicit] : []),
    ...(runtime ? [join(runtime, 'containers/auth.json')] : []),
    join(config, 'containers/auth.json'),
    join(environment['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json'),
  ]
}

/** The keys under which a login for a repository may stand, the most precise first. */
function loginKeys(domain: string, path: string): string[] {
  const keys: string[] = []
  const parts = path.split('/')
  for (let n = parts.length; n > 0; n--) keys.push(`${domain}/${parts.slice(0, n).join('/')}`)
  keys.push(domain)
  if (domain === 'docker.io') keys.push('index.docker.io', 'registry-1.docker.io')
  return keys
}

/** `https://index.docker.io/v1/` is `index.docker.io`: old docker wrote addresses. */
function normalKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '')
}

/** Whether a login kept under this address (`quay.io`, `quay.io/team`, `https://index.docker.io/v1/`) is one for the repository. */
export function isLoginFor(address: string, domain: string, path: string): boolean {
  return loginKeys(domain, path).includes(normalKey(address))
}

/** The login for a repository: exact path first, then its parents, then the host; undefined for none. */
export async function findCredentials(
  domain: string,
  path: string,
  files: readonly string[] = credentialFiles(),
): Promise<Credentials | undefined> {
  for (const file of files) {
    let bytes: Buffer
    try {
      bytes = readFileSync(file)
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) continue
      throw error
    }
    const found = await credentialsIn(
      parseObject(bytes, AUTH_FILE_BYTES_MAX, file),
      domain,
      path,
      file,
    )
    if (found !== undefined) return found
  }
  return undefined
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

async function credentialsIn(
  config: Record<string, unknown>,
  domain: string,
  path: string,
  file: string,
): Promise<Credentials | undefined> {
  const keys = loginKeys(domain, path)
  const helpers = new Map(Object.entries(record(config['credHelpers'])))
  for (const key of keys) {
    const helper = helpers.get(key)
    if (typeof helper === 'string') return askHelper(helper, key)
  }
  const auths = new Map(
    Object.entries(record(config['auths'])).map(([key, value]) => [normalKey(key), value]),
  )
  for (const key of keys) {
    const found = loginOf(record(auths.get(key)), file, key)
    if (found !== undefined) return found
  }
  const store = config['credsStore']
  if (typeof store !== 'string' || store === '') return undefined
  return askHelper(store, domain === 'docker.io' ? 'https://index.docker.io/v1/' : domain)
}

function loginOf(
  entry: Record<string, unknown>,
  file: string,
  key: string,
): Credentials | undefined {
  const { auth, username, password, identitytoken, registrytoken } = entry as Record<
    string,
    unknown
  >
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

/** Asks `docker-credential-NAME get` (docker-credential-helpers' protocol): the server on stdin, JSON on stdout. */
async function askHelper(name: string, server: string): Promise<Credentials | undefined> {
  // The name becomes part of a program's: no path in it.
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${JSON.stringify(name.slice(0, 100))} is no credential helper's name`,
    )
  }
  const program = `docker-credential-${name}`
  const child = spawn(program, ['get'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: HELPER_TIMEOUT_MS,
  })
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new Fault('UNAVAILABLE', `cannot run ${program}`, { cause: error })),
    )
    child.on('close', (code) => resolve(code ?? -1))
  })
  // A helper that reads nothing breaks the pipe; its exit code says the rest.
  child.stdin.on('error', () => undefined)
  child.stdin.end(server)
  const [output, code] = await Promise.all([
    readAtMost(child.stdout, HELPER_OUTPUT_BYTES_MAX, `the output of ${program}`),
    ended,
  ])
  const text = output.toString('utf8')
  if (code !== 0) {
    if (/credentials not found/i.test(text)) return undefined
    throw new Fault('UNAVAILABLE', `${program} ended with code ${code} when asked for ${server}`)
  }
  const answer = parseObject(output, HELPER_OUTPUT_BYTES_MAX, `the output of ${program}`)
  const username = answer['Username']
  const secret = answer['Secret']
  if (typeof username !== 'string' || typeof secret !== 'string') {
    throw new Fault('UNAVAILABLE', `${program} gives no Username and Secret`)
  }
  if (username === '<token>') return { kind: 'identity', token: secret }
  return { kind: 'basic', username, password: secret }
}
