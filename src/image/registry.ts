import { describe, Fault } from '../base/fault.ts'
import { type Descriptor, type Digest, MEDIA_TYPES } from '../spec/image.ts'
import type { Credentials } from './auth.ts'
import { algorithmOf, digestIn, digestOf, hexOf, verifyBytes } from './digest.ts'
import type { Capability, Endpoint, RepositoryName } from './endpoint.ts'
import { type Answer, chunksOf, type Http, Retry, retrying } from './http.ts'
import { parseObject, texts } from './json.ts'
import { MANIFEST_BYTES_MAX, MANIFEST_MEDIA_TYPES, parseDocument } from './manifest.ts'
import { type Reference, repositoryOf } from './reference.ts'
import { Remote, retryOrThrow } from './remote.ts'

/** What refers to one manifest: signatures, attestations. More than this nobody can look at. */
const REFERRERS_MAX = 1024
/** Answers that together list the referrers. */
const REFERRERS_PAGES_MAX = 32
/** Of the digest in the tag that stands for the API (distribution-spec, "Referrers Tag Schema"). */
const REFERRERS_TAG_HEX_MAX = 64
const LINK_LENGTH_MAX = 8192
/** Tags of one repository that are pulled at a stroke, and answers that together list them. */
const TAGS_MAX = 10_000
const TAGS_PAGES_MAX = 1000
/** With less of a blob an attempt has got nowhere: a server that drips and cuts is not asked for ever. */
const PROGRESS_BYTES_MIN = 1024

export interface FetchedManifest {
  readonly bytes: Buffer
  readonly mediaType: string | undefined
  readonly digest: Digest
}

/**
 * One repository, at all addresses that serve it, as distribution-spec 1.1 says ("Pull"). Every call tries the addresses in order, each
 * with retries for what may pass, and fails with the last address's reason.
 */
export class Repository {
  readonly #http: Http
  readonly #remotes: readonly Remote[]
  readonly #name: string

  /** `http` is closed with the repository. */
  constructor(options: {
    http: Http
    reference: Reference
    endpoints: readonly Endpoint[]
    credentials: (name: RepositoryName) => Promise<Credentials | undefined>
  }) {
    const { reference, http, credentials } = options
    this.#http = http
    this.#name = repositoryOf(reference)
    this.#remotes = options.endpoints.map(
      (endpoint) => new Remote({ http, endpoint, domain: reference.domain, credentials }),
    )
  }

  [Symbol.dispose](): void {
    this.#http.close()
  }

  /** Where this repository is pushed to: the registry itself rather than a host that stands in for it. */
  get target(): Remote {
    const able = this.#remotes.filter(({ endpoint }) => endpoint.capabilities.has('push'))
    const target = able.findLast(({ endpoint }) => !endpoint.isMirror) ?? able.at(-1)
    if (target !== undefined) return target
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot push to ${this.#name}: no host is configured that may push`,
    )
  }

  /** A manifest or index by tag or digest, its bytes verified where the digest is known. */
  manifest(
    reference: { tag: string } | { digest: Digest },
    signal?: AbortSignal,
  ): Promise<FetchedManifest> {
    const asked = 'digest' in reference ? reference.digest : reference.tag
    const what = `${this.#name}${'digest' in reference ? '@' : ':'}${asked}`
    const capability = 'digest' in reference ? 'pull' : 'resolve'
    return this.#first(capability, what, (remote) =>
      retrying(
        async () => {
          const answer = await remote.request({
            target: `manifests/${asked}`,
            scope: remote.scope('pull'),
            expect: [200],
            what,
            headers: { accept: MANIFEST_MEDIA_TYPES.join(', ') },
            signal,
          })
          if (answer instanceof Retry) return answer
          const subject = `the manifest of ${what}`
          const bytes = await remote.body(answer, MANIFEST_BYTES_MAX, subject, signal)
          if (bytes instanceof Retry) return bytes
          const mediaType = answer.headers['content-type']
          if ('digest' in reference) {
            verifyBytes(bytes, reference.digest, `${subject} from ${remote.host}`)
            return { bytes, mediaType, digest: reference.digest }
          }
          const said = answer.headers['docker-content-digest']
          const promised = typeof said === 'string' ? digestIn(said) : undefined
          if (promised !== undefined) verifyBytes(bytes, promised, subject)
          return { bytes, mediaType, digest: promised ?? digestOf(bytes) }
        },
        { signal },
      ),
    )
  }

  /**
   * What refers to a manifest (distribution-spec 1.1, "Listing Referrers"): signatures, attestations and other artifacts, each with its
   * artifactType and annotations; of one type only where it is given. Registries without that API are asked for the tag `sha256-HEX`, which
   * clients keep in its place. The first address that lists any is believed. Nothing but the list is verified here.
   */
  async referrers(
    digest: Digest,
    artifactType?: string,
    signal?: AbortSignal,
  ): Promise<Descriptor[]> {
    const what = `referrers of ${this.#name}@${digest}`
    let found: Descriptor[] = []
    const list = async (remote: Remote): Promise<boolean> => {
      found = await this.#referrersAt(remote, digest, artifactType, signal)
      return found.length > 0
    }
    // A mirror that holds the image and none of its signatures says nothing about those of the registry.
    await this.#first('resolve', what, list, (any) => any)
    return found
  }

  async #referrersAt(
    remote: Remote,
    digest: Digest,
    artifactType: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Descriptor[]> {
    const what = `referrers of ${this.#name}@${digest}`
    const query =
      artifactType === undefined ? '' : `?artifactType=${encodeURIComponent(artifactType)}`
    const found: Descriptor[] = []
    let target: string | URL | undefined = `referrers/${digest}${query}`
    for (let page = 0; target !== undefined; page++) {
      if (page >= REFERRERS_PAGES_MAX) {
        throw new Fault(
          'RESOURCE_EXHAUSTED',
          `${remote.host} lists ${what} on more than ${page} pages`,
        )
      }
      const listed = await this.#index(remote, target, what, signal)
      if (listed === undefined) {
        if (page > 0)
          throw new Fault('UNAVAILABLE', `${remote.host} has no page ${page + 1} of ${what}`)
        const tag = `${algorithmOf(digest)}-${hexOf(digest).slice(0, REFERRERS_TAG_HEX_MAX)}`
        const fallback = await this.#index(remote, `manifests/${tag}`, what, signal)
        found.push(...(fallback?.manifests ?? []))
        break
      }
      found.push(...listed.manifests)
      target = listed.next
    }
    // A registry need not filter, and the tag is never filtered.
    const wanted = found.filter(
      (entry) => artifactType === undefined || entry.artifactType === artifactType,
    )
    if (wanted.length > REFERRERS_MAX) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `${remote.host} lists more than ${REFERRERS_MAX} ${what}`,
      )
    }
    return wanted
  }

  /** The tags that the registry lists, in its order; NOT_FOUND where it has no such repository. */
  tags(signal?: AbortSignal): Promise<string[]> {
    const what = `the tags of ${this.#name}`
    return this.#first('resolve', what, async (remote) => {
      const found = new Set<string>()
      let target: string | URL | undefined = 'tags/list'
      for (let page = 0; target !== undefined; page++) {
        if (page >= TAGS_PAGES_MAX || found.size > TAGS_MAX) {
          const text = `${remote.host} lists more than ${TAGS_MAX} tags, or more than ${TAGS_PAGES_MAX} pages, as ${what}`
          throw new Fault('RESOURCE_EXHAUSTED', text)
        }
        const listed: { tags: readonly string[]; next: URL | undefined } = await this.#tagsPage(
          remote,
          target,
          what,
          signal,
        )
        for (const tag of listed.tags) found.add(tag)
        target = listed.next
      }
      return [...found]
    })
  }

  #tagsPage(
    remote: Remote,
    target: string | URL,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<{ tags: readonly string[]; next: URL | undefined }> {
    return retrying(
      async () => {
        const scope = remote.scope('pull')
        const answer = await remote.request({ target, scope, expect: [200], what, signal })
        if (answer instanceof Retry) return answer
        const bytes = await remote.body(answer, MANIFEST_BYTES_MAX, what, signal)
        if (bytes instanceof Retry) return bytes
        const fields = parseObject(bytes, MANIFEST_BYTES_MAX, what)
        return { tags: texts(fields, 'tags', what) ?? [], next: nextPage(answer) }
      },
      { signal },
    )
  }

  /** The entries of an index, and where its next page is; undefined where there is none. */
  async #index(
    remote: Remote,
    target: string | URL,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<{ manifests: readonly Descriptor[]; next: URL | undefined } | undefined> {
    return retrying(
      async () => {
        const answer = await remote.request({
          target,
          scope: remote.scope('pull'),
          expect: [200, 404],
          what,
          headers: { accept: MEDIA_TYPES.ociIndex },
          signal,
        })
        if (answer instanceof Retry) return answer
        if (answer.status === 404) {
          answer.body.destroy()
          return undefined
        }
        const bytes = await remote.body(answer, MANIFEST_BYTES_MAX, what, signal)
        if (bytes instanceof Retry) return bytes
        const document = parseDocument(bytes, answer.headers['content-type'], `the list of ${what}`)
        if (document.kind !== 'index') {
          throw new Fault('INVALID_ARGUMENT', `${remote.host} lists no ${what} but a manifest`)
        }
        return { manifests: document.index.manifests, next: nextPage(answer) }
      },
      { signal },
    )
  }

  /** A small blob whole: a configuration. Verified. */
  smallBlob(descriptor: Descriptor, bytesMax: number, signal?: AbortSignal): Promise<Buffer> {
    const what = `blob ${descriptor.digest} of ${this.#name}`
    return this.#first('pull', what, (remote) =>
      retrying(
        async () => {
          const answer = await remote.request({
            target: `blobs/${descriptor.digest}`,
            scope: remote.scope('pull'),
            expect: [200],
            what,
            signal,
          })
          if (answer instanceof Retry) return answer
          const bytes = await remote.body(answer, bytesMax, what, signal)
          if (bytes instanceof Retry) return bytes
          verifyBytes(bytes, descriptor.digest, `${what} from ${remote.host}`)
          return bytes
        },
        { signal },
      ),
    )
  }

  /**
   * The bytes of a blob from `offset` on, through cut connections: each cut is taken up by a Range request, by another address where
   * this one fails for good. `consume` gets every piece once, in order. Servers that know no ranges send all again, and what is there is
   * skipped. Not verified here: the consumer hashes.
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
    await this.#first('pull', what, (remote) => {
      let before = offset
      let knowsRanges = true
      return retrying<true>(
        async () => {
          before = offset
          if (offset === descriptor.size) return true
          const answer = await remote.request({
            target: `blobs/${descriptor.digest}`,
            scope: remote.scope('pull'),
            expect: [200, 206, 416],
            what,
            // No If-Range: the digest in the address is the content's validator.
            headers: offset > 0 && knowsRanges ? { range: `bytes=${offset}-` } : {},
            signal,
          })
          if (answer instanceof Retry) return answer
          if (answer.status === 416) {
            answer.body.destroy()
            if (!knowsRanges)
              throw new Fault('DATA_LOSS', `${remote.host} sends no part of ${what}`)
            knowsRanges = false
            return new Retry(
              new Fault('UNAVAILABLE', `${remote.host} sends no range of ${what}`),
              0,
            )
          }
          let skip =
            answer.status === 206 ? rangeSkip(answer, offset, descriptor.size, what) : offset
          try {
            for await (const chunk of chunksOf(answer)) {
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
            return retryOrThrow(error, signal)
          }
          if (offset === descriptor.size) return true
          const text = `${what} ended after ${offset} of ${descriptor.size} bytes`
          return new Retry(new Fault('UNAVAILABLE', text))
        },
        { signal, progressed: () => offset - before >= PROGRESS_BYTES_MIN },
      )
    })
  }

  /** `isEnough` says whether an answer ends the search; the last one is taken in any case. */
  async #first<T>(
    capability: Capability,
    what: string,
    call: (remote: Remote) => Promise<T>,
    isEnough: (answer: T) => boolean = () => true,
  ): Promise<T> {
    const remotes = this.#remotes.filter(({ endpoint }) => endpoint.capabilities.has(capability))
    let got: { answer: T } | undefined
    let last: Fault | undefined
    // What the addresses before the last one said: a mirror's "no such tag" is the news where the registry itself cannot be reached.
    const before: string[] = []
    for (const remote of remotes) {
      try {
        got = { answer: await call(remote) }
        if (isEnough(got.answer)) return got.answer
        // It answers for those before it that failed: it is nearer to the registry, or is the registry.
        last = undefined
        before.length = 0
      } catch (error) {
        if (error instanceof ConsumerError) throw error.cause
        // An abort, or a bug of ours: no other address will do better.
        if (!(error instanceof Fault)) throw error
        if (last) before.push(describe(last))
        last = error
      }
    }
    if (!last) {
      if (got !== undefined) return got.answer
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot fetch ${what}: no host is configured that may ${capability}`,
      )
    }
    if (before.length === 0) throw last
    throw new Fault(last.code, `${describe(last)} (before it: ${before.join('; ')})`, {
      cause: last,
    })
  }
}

/** Carries the consumer's failure past the retries: it is not the registry's. */
class ConsumerError extends Error {
  constructor(cause: unknown) {
    super('the consumer of a blob failed', { cause })
  }
}

/** How many bytes of a partial answer we have already: it may begin before what was asked for, never after, and is of the same whole. */
function rangeSkip(answer: Answer, offset: number, size: number, what: string): number {
  const match = /^bytes ([0-9]+)-[0-9]+\/([0-9]+|\*)$/.exec(answer.headers['content-range'] ?? '')
  const start = match === null ? Number.NaN : Number(match[1])
  const whole = match?.[2] === '*' ? size : Number(match?.[2])
  if (start <= offset && whole === size) return offset - start
  answer.body.destroy()
  throw new Fault('DATA_LOSS', `${answer.url.host} answers a range of ${what} with another range`)
}

/** The next page that a Link header names (RFC 8288), at the same registry. */
function nextPage(answer: Answer): URL | undefined {
  const header = answer.headers['link']
  const match = /<([^<>]*)>\s*;\s*rel="?next"?/i.exec(
    (Array.isArray(header) ? header.join(',') : (header ?? '')).slice(0, LINK_LENGTH_MAX),
  )
  if (match === null) return undefined
  const text = match[1] ?? ''
  const next = URL.canParse(text, answer.url.href) ? new URL(text, answer.url) : undefined
  if (next?.origin === answer.url.origin) return next
  throw new Fault('UNAVAILABLE', `${answer.url.host} leads to a next page that is not its own`)
}
