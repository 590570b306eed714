import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { digestIn, digestOf, mismatch } from './digest.ts'
import { type Answer, bodyOf, type RequestBody, Retry, retrying } from './http.ts'
import { type Remote, retryOrThrow } from './remote.ts'

/** A piece of a blob that is sent in pieces: what a cut costs at most. */
const CHUNK_BYTES = 16 * 1024 * 1024
/** Bytes that the registry must have kept for an attempt to count as progress. */
const PROGRESS_BYTES_MIN = 1024

export interface BlobSource {
  readonly descriptor: Descriptor
  /** The bytes from there on. */
  readonly chunks: (offset: number) => AsyncIterable<Uint8Array>
  /** Told of bytes as they are sent; it may go back. */
  readonly onSent: (bytes: number) => void
}

/** What became of a body: stored, too large to be taken at once (413), or for an upload that the registry has forgotten. */
type Sent = true | 'too large' | 'lost'

/** Where the registry takes one blob, and what it has of it. */
interface Session {
  readonly url: URL
  readonly offset: number
  /** OCI-Chunk-Min-Length. */
  readonly chunkMin: number
}

/**
 * Puts blobs and manifests into one repository, as distribution-spec 1.1 says ("Push"). Every call is repeatable and retries what may pass.
 */
export class Upload {
  readonly #remote: Remote
  readonly #signal: AbortSignal | undefined

  constructor(remote: Remote, signal: AbortSignal | undefined) {
    this.#remote = remote
    this.#signal = signal
  }

  /** Whether the repository has the blob, in its promised size. */
  async has({ digest, size }: Descriptor): Promise<boolean> {
    const answer = await this.#retrying(() =>
      this.#request('HEAD', `blobs/${digest}`, `blob ${digest}`, [200, 404]),
    )
    answer.body.destroy()
    const length = answer.headers['content-length']
    return answer.status === 200 && (length === undefined || Number(length) === size)
  }

  /** Has the registry take the blob from another repository of its own; false where it does not. */
  async mount(digest: Digest, from: string): Promise<boolean> {
    const remote = this.#remote
    const query = new URLSearchParams({ mount: digest, from })
    const scope = `${remote.scope('pull,push')} repository:${from}:pull`
    try {
      const answer = await this.#retrying(() =>
        remote.request({
          method: 'POST',
          target: `blobs/uploads/?${query}`,
          scope,
          expect: [201, 202],
          what: `blob ${digest}`,
          body: bodyOf(''),
          signal: this.#signal,
        }),
      )
      answer.body.destroy()
      if (answer.status === 201) return true
      await this.#cancel(this.#session(answer, 0).url)
      return false
    } catch (error) {
      this.#signal?.throwIfAborted()
      // Whatever it has against the other repository, the blob itself can still be sent.
      if (error instanceof Fault) return false
      throw error
    }
  }

  /** Gives an upload up that is not needed; the registry forgets it by itself where that fails. */
  async #cancel(url: URL): Promise<void> {
    const answer = await this.#request('DELETE', url, 'an upload', [200, 202, 204, 404, 405])
    if (!(answer instanceof Retry)) answer.body.destroy()
  }

  /**
   * Sends the blob: at once, and after a cut from where the registry says it has it, in pieces; from the beginning where it has forgotten. In
   * pieces too where it takes no body of that size (413).
   */
  async send(source: BlobSource): Promise<void> {
    const what = `blob ${source.descriptor.digest}`
    const { host } = this.#remote
    let session: Session | undefined
    let inPieces = false
    /** What the registry has ever said to have, now and before this attempt. */
    let reached = 0
    let before = 0
    const learn = (next: Session): void => {
      session = next
      reached = Math.max(reached, next.offset)
    }
    await retrying<true>(
      async () => {
        before = reached
        const found = session && (await this.#resume(session, source.descriptor))
        if (found instanceof Retry) return found
        const from = found ?? (await this.#begin(what))
        if (from instanceof Retry) return from
        learn(from)
        inPieces = inPieces || from.offset > 0
        const sent = inPieces
          ? await this.#sendPieces(source, from, learn)
          : await this.#finish(source, from)
        if (sent === true || sent instanceof Retry) return sent
        const text = `${host} takes no body of that size for ${what}`
        if (sent === 'too large' && inPieces) throw new Fault('RESOURCE_EXHAUSTED', text)
        if (sent === 'too large') inPieces = true
        if (sent === 'too large') return new Retry(new Fault('UNAVAILABLE', text), 0)
        session = undefined
        return new Retry(new Fault('UNAVAILABLE', `${host} has lost the upload of ${what}`))
      },
      {
        signal: this.#signal,
        progressed: () => reached - before >= PROGRESS_BYTES_MIN,
        // A large body takes its time, and a cut at its end is not the name server's.
        patienceMs: Number.POSITIVE_INFINITY,
      },
    )
  }

  /** Puts a manifest or index under a tag or its digest; its blobs are there before it. */
  async manifest(name: string, bytes: Uint8Array, mediaType: string): Promise<Answer['headers']> {
    const what = `manifest ${name}`
    const answer = await this.#retrying(() =>
      this.#remote.request({
        method: 'PUT',
        target: `manifests/${name}`,
        scope: this.#remote.scope('pull,push'),
        expect: [201, 202],
        what,
        headers: { 'content-type': mediaType },
        body: bodyOf(bytes),
        signal: this.#signal,
      }),
    )
    answer.body.destroy()
    this.#checkDigest(answer, digestOf(bytes), what)
    return answer.headers
  }

  async #begin(what: string): Promise<Session | Retry> {
    const expect = [202]
    const answer = await this.#request('POST', 'blobs/uploads/', what, expect, bodyOf(''))
    if (answer instanceof Retry) return answer
    answer.body.destroy()
    return this.#session(answer, 0)
  }

  /** How far an upload has got; undefined where the registry knows nothing of it any more. */
  async #resume(
    session: Session,
    { digest, size }: Descriptor,
  ): Promise<Session | undefined | Retry> {
    const what = `blob ${digest}`
    const answer = await this.#request('GET', session.url, what, [202, 204, 400, 404, 416])
    if (answer instanceof Retry) return answer
    answer.body.destroy()
    if (answer.status >= 400) return undefined
    const found = this.#session(answer, endOfRange(answer), session)
    // More than there is: what it has is not this blob.
    return found.offset > size ? undefined : found
  }

  /** All that is missing by one PUT that also ends the upload. */
  async #finish(source: BlobSource, session: Session): Promise<Sent | Retry> {
    const { digest, size } = source.descriptor
    const what = `blob ${digest}`
    const url = new URL(session.url)
    url.searchParams.set('digest', digest)
    const body = piece(source, session.offset, size)
    const range = `${session.offset}-${size - 1}`
    const headers = session.offset > 0 && session.offset < size ? { 'content-range': range } : {}
    const expect = [201, 204, 404, 413, 416]
    const answer = await this.#request('PUT', url, what, expect, body, headers)
    if (answer instanceof Retry) return answer
    answer.body.destroy()
    if (answer.status >= 400) return answer.status === 413 ? 'too large' : 'lost'
    this.#checkDigest(answer, digest, what)
    source.onSent(size)
    return true
  }

  async #sendPieces(
    source: BlobSource,
    begun: Session,
    onSession: (session: Session) => void,
  ): Promise<Sent | Retry> {
    const { digest, size } = source.descriptor
    let session = begun
    const pieceBytes = (): number => Math.max(CHUNK_BYTES, session.chunkMin)
    // The last piece, which alone may be shorter than the registry wants, goes with the PUT.
    while (size - session.offset > pieceBytes()) {
      const end = session.offset + pieceBytes()
      const answer = await this.#request(
        'PATCH',
        session.url,
        `blob ${digest}`,
        [202, 204, 400, 404, 413, 416],
        piece(source, session.offset, end),
        { 'content-range': `${session.offset}-${end - 1}` },
      )
      if (answer instanceof Retry) return answer
      answer.body.destroy()
      if (answer.status >= 400) return answer.status === 413 ? 'too large' : 'lost'
      const next = this.#session(answer, endOfRange(answer), session)
      if (next.offset <= session.offset || next.offset > end) {
        const text = `${this.#remote.host} says it has ${next.offset} bytes of blob ${digest} after ${end}`
        throw new Fault('DATA_LOSS', text)
      }
      session = next
      onSession(session)
    }
    return this.#finish(source, session)
  }

  /** The upload that an answer leads to. A lost `Location` keeps the one before. */
  #session(answer: Answer, offset: number, before?: Session): Session {
    const { location } = answer.headers
    const min = answer.headers['oci-chunk-min-length']
    const chunkMin = typeof min === 'string' && /^[0-9]{1,15}$/.test(min) ? Number(min) : 0
    const url = location === undefined ? before?.url : uploadUrl(answer.url, location)
    if (url === undefined) {
      throw new Fault('UNAVAILABLE', `${answer.url.host} names no place for an upload`)
    }
    return { url, offset, chunkMin: Math.max(chunkMin, before?.chunkMin ?? 0) }
  }

  /** What the registry says it has stored is what was sent, or it is not believed. */
  #checkDigest(answer: Answer, digest: Digest, what: string): void {
    const said = answer.headers['docker-content-digest']
    const stored = typeof said === 'string' ? digestIn(said) : undefined
    // It may name the same bytes by another algorithm.
    if (stored === undefined || stored === digest || stored.slice(0, 7) !== digest.slice(0, 7))
      return
    throw mismatch(`${what}, as ${this.#remote.host} has stored it,`, digest, stored)
  }

  #request(
    method: 'HEAD' | 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    target: string | URL,
    what: string,
    expect: readonly number[],
    body?: RequestBody,
    headers: Record<string, string> = {},
  ): Promise<Answer | Retry> {
    const type = { 'content-type': 'application/octet-stream' }
    return this.#remote.request({
      method,
      target,
      scope: this.#remote.scope('pull,push'),
      expect,
      what,
      headers: { ...(body === undefined ? {} : type), ...headers },
      body,
      signal: this.#signal,
    })
  }

  #retrying<T>(attempt: () => Promise<T | Retry>): Promise<T> {
    const once = async (): Promise<T | Retry> => {
      try {
        return await attempt()
      } catch (error) {
        return retryOrThrow(error, this.#signal)
      }
    }
    return retrying(once, { signal: this.#signal })
  }
}

/** The bytes of a blob between two places, as a body. */
function piece(source: BlobSource, start: number, end: number): RequestBody {
  return {
    length: end - start,
    read: async function* () {
      let at = start
      if (at === end) return
      for await (const chunk of source.chunks(start)) {
        const part = chunk.subarray(0, end - at)
        at += part.length
        yield part
        source.onSent(at)
        // Not at the last byte of all: the source verifies what it has read behind it.
        if (at === end && end < source.descriptor.size) return
      }
    },
  }
}

/** Bytes that a registry has, by its Range header: `0-499` are 500, and `0-0` before the first is none. */
function endOfRange(answer: Answer): number {
  const match = /^(?:bytes=)?0-([0-9]{1,15})$/.exec(String(answer.headers['range'] ?? ''))
  if (match === null) return 0
  const last = Number(match[1])
  return last === 0 ? 0 : last + 1
}

/** Where an upload goes on. Credentials go there only if it is the registry itself (remote.ts). */
function uploadUrl(from: URL, location: string): URL {
  if (!URL.canParse(location, from.href)) {
    throw new Fault('UNAVAILABLE', `${from.host} names no valid place for an upload`)
  }
  const url = new URL(location, from)
  if (url.protocol === from.protocol) return url
  if (from.protocol === 'http:' && url.protocol === 'https:') return url
  // A registry behind a proxy that speaks TLS for it often knows itself by plain HTTP only.
  if (from.protocol === 'https:' && url.protocol === 'http:' && url.hostname === from.hostname) {
    return new URL(url.pathname + url.search, from)
  }
  throw new Fault(
    'PERMISSION_DENIED',
    `${from.host} wants an upload sent by ${url.protocol}//, which is less safe`,
  )
}
