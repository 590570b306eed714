import { Fault } from '../base/fault.ts'
import { Authorizer, type Credentials, parseChallenges } from './auth.ts'
import type { Endpoint } from './hosts.ts'
import {
  type Answer,
  chunksOf,
  type Http,
  type Request,
  Retry,
  readAtMost,
  retryAfterMs,
} from './http.ts'

const ERROR_BYTES_MAX = 64 * 1024
const ERROR_SHOWN_MAX = 300
/** Challenges answered for one request: one for no token, one for an expired one. */
const CHALLENGES_MAX = 2

export interface RemoteRequest {
  readonly method?: Request['method']
  /** Below the repository (`manifests/latest`), or an address that the registry gave in an answer. */
  readonly target: string | URL
  /** Rights on this and other repositories (distribution's token scopes). */
  readonly scope: string
  /** Statuses that come back as an answer; every other is a Fault or a Retry. */
  readonly expect: readonly number[]
  /** For messages. */
  readonly what: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Request['body']
  readonly signal: AbortSignal | undefined
}

/** One repository at one address, spoken to with the login that this address asks for. */
export class Remote {
  readonly endpoint: Endpoint
  /** Of the repository, there. */
  readonly path: string
  readonly #http: Http
  readonly #domain: string
  readonly #authorizer: Authorizer

  constructor(options: {
    http: Http
    endpoint: Endpoint
    /** The reference's own, whatever host the endpoint is at. */
    domain: string
    path: string
    credentials: () => Promise<Credentials | undefined>
  }) {
    const { endpoint, http, credentials } = options
    this.endpoint = endpoint
    this.path = options.path
    this.#http = http
    this.#domain = options.domain
    this.#authorizer = new Authorizer({
      http,
      origin: endpoint.url,
      tls: endpoint.tls,
      credentials,
    })
  }

  /** `registry.example:5000`, for messages. */
  get host(): string {
    return this.endpoint.url.host
  }

  scope(actions: 'pull' | 'pull,push'): string {
    return `repository:${this.path}:${actions}`
  }

  /** A request that is authorised as the registry asks; an answer has one of the expected statuses. */
  async request(request: RemoteRequest): Promise<Answer | Retry> {
    const { signal, what, scope } = request
    const url = this.#url(request.target)
    // What an address elsewhere is sent is not for this registry's eyes only, and its login is not for that address.
    const isOwn = url.origin === this.endpoint.url.origin
    for (let challenges = 0; ; challenges++) {
      const authorization = isOwn ? this.#authorizer.header(scope) : undefined
      let answer: Answer
      try {
        answer = await this.#http.send({
          method: request.method ?? 'GET',
          url,
          headers: {
            ...(isOwn ? this.endpoint.headers : {}),
            ...request.headers,
            ...(authorization === undefined ? {} : { authorization }),
          },
          ...(request.body === undefined ? {} : { body: request.body }),
          tls: isOwn ? this.endpoint.tls : { ...this.endpoint.tls, client: [] },
          signal,
        })
      } catch (error) {
        return retryOrThrow(error, signal)
      }
      if (request.expect.includes(answer.status)) return answer
      const mayAnswer = isOwn && answer.url.origin === url.origin && challenges < CHALLENGES_MAX
      if (answer.status !== 401 || !mayAnswer) return refusal(answer, what)
      const header = answer.headers['www-authenticate']
      const asked = parseChallenges(header ?? '')
      const text = await errorText(answer)
      const refused = authorization
      if (await this.#authorizer.answer({ challenges: asked, scope, refused, signal })) continue
      throw new Fault(
        'UNAUTHENTICATED',
        `${this.host} refuses ${what} without a valid login${text}`,
      )
    }
  }

  /** The whole body, of at most so many bytes. */
  async body(
    answer: Answer,
    bytesMax: number,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | Retry> {
    try {
      return await readAtMost(chunksOf(answer), bytesMax, what)
    } catch (error) {
      return retryOrThrow(error, signal)
    }
  }

  #url(target: string | URL): URL {
    if (target instanceof URL) return target
    const url = new URL(`${this.endpoint.url.href.replace(/\/$/, '')}/${this.path}/${target}`)
    if (this.endpoint.isMirror) url.searchParams.set('ns', this.#domain)
    return url
  }
}

/** A failure that may pass, for `retrying`; every other is thrown on. */
export function retryOrThrow(error: unknown, signal: AbortSignal | undefined): Retry {
  signal?.throwIfAborted()
  if (error instanceof Fault && error.code === 'UNAVAILABLE') return new Retry(error)
  throw error
}

async function refusal(answer: Answer, what: string): Promise<Retry> {
  const { status, url } = answer
  const text = await errorText(answer)
  if (status === 429 || status >= 500) {
    const reason = status === 429 ? 'asks for fewer requests' : 'has a failure'
    return new Retry(
      new Fault('UNAVAILABLE', `${url.host} ${reason} (status ${status}) for ${what}${text}`),
      retryAfterMs(answer.headers['retry-after'], Date.now()),
    )
  }
  if (status === 404) throw new Fault('NOT_FOUND', `${url.host} has no ${what}${text}`)
  if (status === 401) throw new Fault('UNAUTHENTICATED', `${url.host} refuses ${what}${text}`)
  if (status === 403) throw new Fault('PERMISSION_DENIED', `${url.host} denies ${what}${text}`)
  throw new Fault('UNAVAILABLE', `${url.host} answers with status ${status} for ${what}${text}`)
}

/** The registry's own words (distribution-spec, "Error Codes"), made harmless for a terminal; '' where it says nothing. */
async function errorText(answer: Answer): Promise<string> {
  try {
    const bytes = await readAtMost(chunksOf(answer), ERROR_BYTES_MAX, 'an error')
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    const errors = (value as { errors?: unknown } | null)?.errors
    const first: unknown = Array.isArray(errors) ? errors[0] : undefined
    const { code, message } = (first ?? {}) as { code?: unknown; message?: unknown }
    const text = [message, code].find((part) => typeof part === 'string' && part !== '')
    if (typeof text !== 'string') return ''
    return `: ${text.replace(/[\p{Cc}\p{Cf}]/gu, ' ').slice(0, ERROR_SHOWN_MAX)}`
  } catch {
    // The status has said it: an unreadable explanation adds nothing.
    return ''
  }
}
