import { Fault, isErrno } from '../base/fault.ts'
import { Authorizer, type Credentials, parseChallenges } from './auth.ts'
import type { Endpoint, RepositoryName } from './endpoint.ts'
import {
  type Answer,
  documentOf,
  type Http,
  PLAIN_TLS,
  type Request,
  Retry,
  retryAfterMs,
} from './http.ts'

const ERROR_BYTES_MAX = 64 * 1024
const ERROR_SHOWN_MAX = 300
/** Challenges answered for one request: one for no token, one for an expired one. */
const CHALLENGES_MAX = 2
/** A connection that was cut does not tell whether TLS is spoken; one that is cut so often does. */
const TLS_PROBES_MAX = 3

export interface RemoteRequest {
  readonly method?: Request['method']
  /** Below the repository (`manifests/latest`), '' for the registry itself, or an address that it gave in an answer. */
  readonly target: string | URL
  /** Rights on this and other repositories (distribution's token scopes). */
  readonly scope: string
  /** Statuses that come back as an answer; every other is a Fault or a Retry. */
  readonly expect: readonly number[]
  /** For messages. */
  readonly what: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Request['body']
  /** Told when the registry wants a login. */
  readonly onAsked?: () => void
  readonly signal: AbortSignal | undefined
}

interface Line {
  /** The endpoint's address, or the same by plain HTTP. */
  readonly base: URL
  readonly authorizer: Authorizer
}

/** One repository at one address, spoken to with the login that this address asks for. */
export class Remote {
  readonly endpoint: Endpoint
  readonly #http: Http
  readonly #domain: string
  readonly #credentials: (name: RepositoryName) => Promise<Credentials | undefined>
  #line: Promise<Line> | undefined

  constructor(options: {
    http: Http
    endpoint: Endpoint
    /** The reference's own, whatever host the endpoint is at. */
    domain: string
    credentials: (name: RepositoryName) => Promise<Credentials | undefined>
  }) {
    this.endpoint = options.endpoint
    this.#http = options.http
    this.#domain = options.domain
    this.#credentials = options.credentials
  }

  /** Of the repository, there. */
  get path(): string {
    return this.endpoint.repository.path
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
    let line: Line
    try {
      line = await this.#connect(signal)
    } catch (error) {
      return retryOrThrow(error, signal)
    }
    const { base, authorizer } = line
    const url = this.#url(base, request.target)
    // What is meant for this registry alone is not for an address elsewhere that it names.
    const isOwn = url.origin === base.origin
    for (let challenges = 0; ; challenges++) {
      const authorization = isOwn ? authorizer.header(scope) : undefined
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
          tls: isOwn ? this.endpoint.tls : PLAIN_TLS,
          connectMs: this.endpoint.connectMs,
          signal,
        })
      } catch (error) {
        return retryOrThrow(error, signal)
      }
      if (request.expect.includes(answer.status)) return answer
      const mayAnswer = isOwn && answer.url.origin === url.origin && challenges < CHALLENGES_MAX
      if (answer.status !== 401 || !mayAnswer) return refusal(answer, what)
      request.onAsked?.()
      const header = answer.headers['www-authenticate']
      const asked = parseChallenges(header ?? '')
      const text = await errorText(answer)
      const refused = authorization
      try {
        if (await authorizer.answer({ challenges: asked, scope, refused, signal })) continue
      } catch (error) {
        // The server of the tokens may be another one, and its connection be cut as well.
        return retryOrThrow(error, signal)
      }
      throw new Fault(
        'UNAUTHENTICATED',
        `${this.host} refuses ${what} without a valid login${text}`,
      )
    }
  }

  /** Asks whether this is a registry that lets us in ("Determining Support"); `onAsked` where it wants a login. */
  async ping(signal: AbortSignal | undefined, onAsked: () => void): Promise<Answer | Retry> {
    return this.request({
      target: '',
      scope: '',
      expect: [200],
      what: 'registry',
      signal,
      onAsked,
    })
  }

  /** The whole body, of at most so many bytes. */
  async body(
    answer: Answer,
    bytesMax: number,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | Retry> {
    try {
      return await documentOf(answer, bytesMax, what)
    } catch (error) {
      return retryOrThrow(error, signal)
    }
  }

  #url(base: URL, target: string | URL): URL {
    if (target instanceof URL) return target
    const root = `${base.href.replace(/\/$/, '')}/`
    const url = new URL(target === '' ? root : `${root}${this.path}/${target}`)
    if (this.endpoint.isMirror) url.searchParams.set('ns', this.#domain)
    return url
  }

  #connect(signal: AbortSignal | undefined): Promise<Line> {
    const line = this.#line ?? this.#findLine(signal)
    this.#line = line
    // What failed once may do the next time.
    line.catch(() => {
      if (this.#line === line) this.#line = undefined
    })
    return line
  }

  async #findLine(signal: AbortSignal | undefined): Promise<Line> {
    const { url, tls, mayBePlain, repository } = this.endpoint
    const base = mayBePlain && !(await this.#speaksTls(signal)) ? plain(url) : url
    const credentials = (): Promise<Credentials | undefined> => this.#credentials(repository)
    return {
      base,
      authorizer: new Authorizer({ http: this.#http, origin: base, tls, credentials }),
    }
  }

  async #speaksTls(signal: AbortSignal | undefined): Promise<boolean> {
    const { url, tls, headers, connectMs } = this.endpoint
    const target = new URL(`${url.href.replace(/\/$/, '')}/`)
    for (let count = 1; ; count++) {
      try {
        const request = { method: 'GET', url: target, headers, tls, connectMs, signal } as const
        const answer = await this.#http.send(request)
        answer.body.destroy()
        return true
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof Fault)) throw error
        if (!isErrno(error.cause, 'ECONNRESET', 'EPIPE') || count >= TLS_PROBES_MAX) return false
      }
    }
  }
}

function plain(url: URL): URL {
  return new URL(url.href.replace(/^https:/, 'http:'))
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
  // Go's servers say no more to who speaks HTTP where TLS is spoken.
  const isPlain = status === 400 && url.protocol === 'http:' && text === ''
  const hint = isPlain
    ? ' (asked by plain HTTP: where it speaks TLS, its CA belongs in certs.d)'
    : ''
  throw new Fault(
    'UNAVAILABLE',
    `${url.host} answers with status ${status} for ${what}${text}${hint}`,
  )
}

/** The registry's own words (distribution-spec, "Error Codes"), made harmless for a terminal; '' where it says nothing. */
async function errorText(answer: Answer): Promise<string> {
  try {
    const bytes = await documentOf(answer, ERROR_BYTES_MAX, 'an error')
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
