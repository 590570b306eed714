import { describe, Fault } from '../base/fault.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { Authorizer, type Credentials, parseChallenges } from './auth.ts'
import { digestIn, digestOf, verifyBytes } from './digest.ts'
import type { Capability, Endpoint } from './hosts.ts'
import {
  type Answer,
  chunksOf,
  type Http,
  Retry,
  readAtMost,
  retryAfterMs,
  retrying,
} from './http.ts'
import { MANIFEST_BYTES_MAX, MANIFEST_MEDIA_TYPES } from './manifest.ts'
import { type Reference, repositoryOf } from './reference.ts'

const ERROR_BYTES_MAX = 64 * 1024
const ERROR_SHOWN_MAX = 300
/** Challenges answered for one request: one for no token, one for an expired one. */
const CHALLENGES_MAX = 2

export interface FetchedManifest {
  readonly bytes: Buffer
  readonly mediaType: string | undefined
  readonly digest: Digest
}

interface Source {
  readonly endpoint: Endpoint
  readonly authorizer: Authorizer
}

/**
 * One repository, at all addresses that serve it, as distribution-spec 1.1 says ("Pull"). Every call tries the addresses in order, each
 * with retries for what may pass, and fails with the last address's reason.
 */
export class Repository {
  readonly #http: Http
  readonly #sources: readonly Source[]
  readonly #domain: string
  readonly #path: string
  readonly #name: string

  constructor(options: {
    http: Http
    reference: Reference
    endpoints: readonly Endpoint[]
    /** For the registry itself; a mirror of another host is asked with that host's own. */
    credentials: (domain: string) => Promise<Credentials | undefined>
  }) {
    const { reference, http } = options
    this.#http = http
    this.#domain = reference.domain
    this.#path = reference.path
    this.#name = repositoryOf(reference)
    this.#sources = options.endpoints.map((endpoint) => ({
      endpoint,
      authorizer: new Authorizer({
        http,
        origin: endpoint.url,
        tls: endpoint.tls,
        credentials: () =>
          options.credentials(endpoint.isMirror ? endpoint.url.host : reference.domain),
      }),
    }))
  }

  /** A manifest or index by tag or digest, its bytes verified where the digest is known. */
  manifest(
    reference: { tag: string } | { digest: Digest },
    signal?: AbortSignal,
  ): Promise<FetchedManifest> {
    const asked = 'digest' in reference ? reference.digest : reference.tag
    const what = `${this.#name}${'digest' in reference ? '@' : ':'}${asked}`
    const capability = 'digest' in reference ? 'pull' : 'resolve'
    return this.#first(capability, what, (source) =>
      retrying(
        async () => {
          const answer = await this.#get(source, `manifests/${asked}`, {
            what,
            signal,
            headers: { accept: MANIFEST_MEDIA_TYPES.join(', ') },
          })
          if (answer instanceof Retry) return answer
          const bytes = await bodyOrRetry(
            answer,
            MANIFEST_BYTES_MAX,
            `the manifest of ${what}`,
            signal,
          )
          if (bytes instanceof Retry) return bytes
          const mediaType = answer.headers['content-type']
          if ('digest' in reference) {
            verifyBytes(
              bytes,
              reference.digest,
              `the manifest of ${what} from ${source.endpoint.url.host}`,
            )
            return { bytes, mediaType, digest: reference.digest }
          }
          const said = answer.headers['docker-content-digest']
          const promised = typeof said === 'string' ? digestIn(said) : undefined
          if (promised !== undefined) verifyBytes(bytes, promised, `the manifest of ${what}`)
          return { bytes, mediaType, digest: promised ?? digestOf(bytes) }
        },
        { signal },
      ),
    )
  }

  /** A small blob whole: a configuration. Verified. */
  smallBlob(descriptor: Descriptor, bytesMax: number, signal?: AbortSignal): Promise<Buffer> {
    const what = `blob ${descriptor.digest} of ${this.#name}`
    return this.#first('pull', what, (source) =>
      retrying(
        async () => {
          const answer = await this.#get(source, `blobs/${descriptor.digest}`, { what, signal })
          if (answer instanceof Retry) return answer
          const bytes = await bodyOrRetry(answer, bytesMax, what, signal)
          if (bytes instanceof Retry) return bytes
          verifyBytes(bytes, descriptor.digest, `${what} from ${source.endpoint.url.host}`)
          return bytes
        },
        { signal },
      ),
    )
  }

  /**
   * The bytes of a blob from `offset` on, through cut connections: each cut is taken up by a Range request, by another address where
   * this one fails for good. `consume` gets every piece once, in order; `restart` says that a server ignores ranges and the bytes begin
   * at 0 again, and returns whether the consumer can. Not verified here: the consumer hashes.
   */
  async blob(
    descriptor: Descriptor,
    options: {
      offset: number
      consume: (chunk: Uint8Array) => Promise<void>
      signal?: AbortSignal | undefined
    },
  ): Promise<void> {
    const what = `blob ${descriptor.digest} of ${this.#name}`
    const { signal } = options
    let offset = options.offset
    await this.#first('pull', what, (source) => {
      let before = offset
      return retrying<true>(
        async () => {
          before = offset
          if (offset === descriptor.size) return true
          const answer = await this.#get(source, `blobs/${descriptor.digest}`, {
            what,
            signal,
            headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
          })
          if (answer instanceof Retry) return answer
          let skip = answer.status === 206 ? rangeSkip(answer, offset, what) : offset
          try {
            for await (const chunk of chunksOf(answer)) {
              // A server that knows no ranges sends all again: what we have is skipped.
              const fresh = skip >= chunk.length ? undefined : chunk.subarray(skip)
              skip -= Math.min(skip, chunk.length)
              if (fresh === undefined) continue
              if (offset + fresh.length > descriptor.size) {
                throw new Fault('DATA_LOSS', `${what} is longer than its ${descriptor.size} bytes`)
              }
              try {
                await options.consume(fresh)
              } catch (error) {
                throw new ConsumerError(error)
              }
              offset += fresh.length
            }
          } catch (error) {
            signal?.throwIfAborted()
            if (error instanceof Fault && error.code === 'UNAVAILABLE') return new Retry(error)
            throw error
          }
          if (offset === descriptor.size) return true
          const text = `${what} ended after ${offset} of ${descriptor.size} bytes`
          return new Retry(new Fault('UNAVAILABLE', text))
        },
        { signal, progressed: () => offset > before },
      )
    })
  }

  async #first<T>(
    capability: Capability,
    what: string,
    call: (source: Source) => Promise<T>,
  ): Promise<T> {
    const sources = this.#sources.filter((source) => source.endpoint.capabilities.has(capability))
    let last: Fault | undefined
    // What the addresses before the last one said: a mirror's "no such tag" is the news where the registry itself cannot be reached.
    const before: string[] = []
    for (const source of sources) {
      try {
        return await call(source)
      } catch (error) {
        if (error instanceof ConsumerError) throw error.cause
        // An abort, or a bug of ours: no other address will do better.
        if (!(error instanceof Fault)) throw error
        if (last) before.push(describe(last))
        last = error
      }
    }
    if (!last) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot fetch ${what}: hosts.toml lists no host that may ${capability}`,
      )
    }
    if (before.length === 0) throw last
    throw new Fault(last.code, `${describe(last)} (before it: ${before.join('; ')})`, {
      cause: last,
    })
  }

  /** A GET below the repository, authorised as the registry asks; only status 200 or 206 comes back. */
  async #get(
    source: Source,
    path: string,
    options: { what: string; headers?: Record<string, string>; signal: AbortSignal | undefined },
  ): Promise<Answer | Retry> {
    const { endpoint, authorizer } = source
    const { signal, what } = options
    const url = new URL(`${endpoint.url.href.replace(/\/$/, '')}/${this.#path}/${path}`)
    if (endpoint.isMirror) url.searchParams.set('ns', this.#domain)
    const scope = `repository:${this.#path}:pull`
    for (let challenges = 0; ; challenges++) {
      const authorization = authorizer.header(scope)
      let answer: Answer
      try {
        answer = await this.#http.send({
          method: 'GET',
          url,
          headers: {
            ...endpoint.headers,
            ...options.headers,
            ...(authorization === undefined ? {} : { authorization }),
          },
          tls: endpoint.tls,
          signal,
        })
      } catch (error) {
        signal?.throwIfAborted()
        if (error instanceof Fault && error.code === 'UNAVAILABLE') return new Retry(error)
        throw error
      }
      if (answer.status === 200 || answer.status === 206) return answer
      const isOwn = answer.url.origin === url.origin
      if (answer.status === 401 && isOwn && challenges < CHALLENGES_MAX) {
        const header = answer.headers['www-authenticate']
        const asked = parseChallenges(header ?? '')
        const text = await errorText(answer)
        if (await authorizer.answer({ challenges: asked, scope, refused: authorization, signal }))
          continue
        throw new Fault(
          'UNAUTHENTICATED',
          `${endpoint.url.host} refuses ${what} without a valid login${text}`,
        )
      }
      return this.#refusal(answer, what)
    }
  }

  async #refusal(answer: Answer, what: string): Promise<Retry> {
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
}

/** Carries the consumer's failure past the retries: it is not the registry's. */
class ConsumerError extends Error {
  constructor(cause: unknown) {
    super('the consumer of a blob failed', { cause })
  }
}

async function bodyOrRetry(
  answer: Answer,
  bytesMax: number,
  what: string,
  signal: AbortSignal | undefined,
): Promise<Buffer | Retry> {
  try {
    return await readAtMost(chunksOf(answer), bytesMax, what)
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof Fault && error.code === 'UNAVAILABLE') return new Retry(error)
    throw error
  }
}

/** How many bytes of a partial answer we have already: it may begin before what was asked for, never after. */
function rangeSkip(answer: Answer, offset: number, what: string): number {
  const match = /^bytes ([0-9]+)-/.exec(answer.headers['content-range'] ?? '')
  const start = match === null ? Number.NaN : Number(match[1])
  if (start <= offset) return offset - start
  answer.body.destroy()
  throw new Fault('DATA_LOSS', `${answer.url.host} answers a range of ${what} with another range`)
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
