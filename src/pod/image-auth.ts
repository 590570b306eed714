import { Fault } from '../base/fault.ts'
import type { Credentials } from '../image/auth.ts'
import { isLoginFor } from '../image/credentials.ts'
import type { Reference } from '../image/reference.ts'

/** The CRI's AuthConfig: one login for one pull. An empty field is none. */
export interface AuthConfig {
  readonly username?: string | undefined
  readonly password?: string | undefined
  /** base64 of `username:password`, as docker's configuration has it. */
  readonly auth?: string | undefined
  readonly serverAddress?: string | undefined
  readonly identityToken?: string | undefined
  readonly registryToken?: string | undefined
}

/** Bytes of one field. Tokens of cloud registries have some thousand. */
const FIELD_LENGTH_MAX = 64 * 1024

/**
 * What a request's login offers this repository, in containerd's order: a pair, an identity token, `auth`, a registry token. Undefined where
 * it offers nothing or is for another registry. INVALID_ARGUMENT never repeats a secret.
 */
export function requestCredentials(
  given: AuthConfig,
  reference: Pick<Reference, 'domain' | 'path'>,
): Credentials | undefined {
  for (const [field, value] of Object.entries(given) as [string, string | undefined][]) {
    if ((value?.length ?? 0) > FIELD_LENGTH_MAX) {
      throw invalid(field, `it is longer than ${FIELD_LENGTH_MAX} characters`)
    }
  }
  const { username, password, auth, serverAddress, identityToken, registryToken } = given
  // What was meant for one registry is not shown to another.
  if (serverAddress && !isLoginFor(serverAddress.toLowerCase(), reference.domain, reference.path)) {
    return undefined
  }
  if (username) return pair('username', username, password ?? '')
  if (identityToken) return { kind: 'identity', token: token('identity token', identityToken) }
  if (auth) return decoded(auth)
  if (registryToken) return { kind: 'registry', token: token('registry token', registryToken) }
  return undefined
}

function decoded(auth: string): Credentials {
  // Buffer.from skips what is no base64: a login that was cut or mistyped would be sent as another one.
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(auth)) throw invalid('auth', 'it is no base64')
  const text = Buffer.from(auth, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon <= 0) throw invalid('auth', 'it is no base64 of "username:password"')
  // docker pads with NUL bytes.
  return pair('auth', text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, ''))
}

function pair(field: string, username: string, password: string): Credentials {
  // RFC 7617, 2: no control characters, and the first colon ends the name.
  if (/[\p{Cc}:]/u.test(username)) throw invalid(field, 'the user name has characters of no name')
  if (/\p{Cc}/u.test(password)) throw invalid(field, 'the password has control characters')
  return { kind: 'basic', username, password }
}

/** It becomes part of a header. */
function token(field: string, value: string): string {
  if (!/^[\x21-\x7e]+$/.test(value)) throw invalid(field, 'it has characters of no token')
  return value
}

function invalid(field: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `the request's login is not usable: ${field}: ${why}`)
}
