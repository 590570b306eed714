import { monotonicMs } from '../base/clock.ts'
import { Fault } from '../base/fault.ts'
import { bodyOf, documentOf, type Http, type TlsFiles } from './http.ts'
import { parseObject } from './json.ts'
import { isLoopback } from './proxy.ts'

const TOKEN_BYTES_MAX = 1024 * 1024
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
    if (kept !== undefined && kept.endsMs > monotonicMs()) return `Bearer ${kept.token}`
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
    // What this request needs, and what the registry says it needs: it may have words of its own for it.
    const scopes = [
      ...new Set([...scope.split(' '), ...(challenge.parameters['scope'] ?? '').split(' ')]),
    ].filter((one) => one !== '')
    const from =
      realm.origin === this.#origin.origin
        ? this.#tls
        : { ca: this.#tls.ca, client: [], skipVerify: this.#tls.skipVerify }
    const isIdentity = credentials?.kind === 'identity'
    if (!isIdentity) {
      if (service !== undefined) realm.searchParams.set('service', service)
      for (const one of scopes) realm.searchParams.append('scope', one)
      if (credentials?.kind === 'basic') realm.searchParams.set('account', credentials.username)
    }
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      service: service ?? '',
      client_id: 'berth',
      scope: scopes.join(' '),
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
      ...(isIdentity ? { body: bodyOf(form.toString()) } : {}),
      tls: from,
      signal,
    })
    const what = `the token of ${realm.host}`
    const bytes = await documentOf(answer, TOKEN_BYTES_MAX, what)
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
    return { token, endsMs: monotonicMs() + lifeS * 1000 - TOKEN_MARGIN_MS }
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
    // A password never goes in the clear over the network because a registry says so: only to a registry that is itself spoken to like that.
    const isPlainItself =
      this.#origin.protocol === 'http:' && realm.hostname === this.#origin.hostname
    const isSafe = realm.protocol === 'https:' || isPlainItself || isLoopback(realm.hostname)
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
