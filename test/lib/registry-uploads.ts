import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

interface Session {
  readonly repository: string
  parts: Buffer[]
  size: number
}

/**
 * The push half of a test's registry, as distribution-spec 1.1 says it: what arrives of a body before a cut is kept, and told of by the
 * upload's Range. docker-registry 2.8 forgets an upload that was cut; registries that do not are what this stands for.
 */
export class Uploads {
  /** OCI-Chunk-Min-Length; a shorter piece that is not the last is refused. */
  chunkMin = 0
  /** Larger bodies get 413. */
  bodyMax = Number.POSITIVE_INFINITY
  /** Where an upload goes on, in place of this registry. */
  origin = ''
  /** What PUT says was stored, in place of the truth. */
  digest: string | undefined
  /** What a session says to have, in place of the truth. */
  range: string | undefined
  readonly bodies: { readonly method: string; readonly size: number }[] = []
  readonly #sessions = new Map<string, Session>()
  readonly #blob: (repository: string, bytes: Buffer) => string
  readonly #manifest: (repository: string, name: string, bytes: Buffer, type: string) => void
  #made = 0

  constructor(keep: {
    blob: (repository: string, bytes: Buffer) => string
    manifest: (repository: string, name: string, bytes: Buffer, type: string) => void
  }) {
    this.#blob = keep.blob
    this.#manifest = keep.manifest
  }

  /** Forgets all uploads that are under way. */
  forget(): void {
    this.#sessions.clear()
  }

  /** Whether the request was one of pushing, and is answered. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = new URL(request.url ?? '', 'http://registry')
    const upload = /^\/v2\/(.*)\/blobs\/uploads\/([^/]*)$/.exec(url.pathname)
    const manifest = /^\/v2\/(.*)\/manifests\/([^/]*)$/.exec(url.pathname)
    if (upload !== null) {
      void this.#upload(request, response, url, upload[1] ?? '', upload[2] ?? '')
      return true
    }
    if (manifest === null || request.method !== 'PUT') return false
    void this.#body(request).then((bytes) => {
      if (bytes === undefined) return
      const type = request.headers['content-type'] ?? ''
      this.#manifest(manifest[1] ?? '', manifest[2] ?? '', bytes, type)
      response.writeHead(201).end()
    })
    return true
  }

  async #upload(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    repository: string,
    id: string,
  ): Promise<void> {
    if (request.method === 'POST') {
      request.resume()
      const made = `u${this.#made++}`
      this.#sessions.set(made, { repository, parts: [], size: 0 })
      this.#answer(response, 202, repository, made)
      return
    }
    const session = this.#sessions.get(id)
    if (session === undefined) {
      request.resume()
      response.writeHead(404).end('{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
      return
    }
    if (request.method === 'GET') {
      this.#answer(response, 204, repository, id)
      return
    }
    if (request.method === 'DELETE') {
      this.#sessions.delete(id)
      response.writeHead(204).end()
      return
    }
    const length = Number(request.headers['content-length'])
    if (length > this.bodyMax) {
      request.resume()
      response.writeHead(413).end()
      return
    }
    const start = /^([0-9]+)-/.exec(request.headers['content-range'] ?? '')?.[1]
    if (start !== undefined && Number(start) !== session.size) {
      request.resume()
      response.writeHead(416).end()
      return
    }
    this.bodies.push({ method: request.method ?? '', size: length })
    const before = session.size
    const whole = await this.#body(request, (part) => {
      session.parts.push(part)
      session.size += part.length
    })
    // Cut off: what has come is kept.
    if (whole === undefined) return
    if (request.method === 'PATCH') {
      if (session.size - before < this.chunkMin) response.writeHead(416).end()
      else this.#answer(response, 202, repository, id)
      return
    }
    const bytes = Buffer.concat(session.parts)
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    this.#sessions.delete(id)
    if (digest !== url.searchParams.get('digest')) {
      response.writeHead(400).end('{"errors":[{"code":"DIGEST_INVALID"}]}')
      return
    }
    this.#blob(repository, bytes)
    response.writeHead(201, { 'docker-content-digest': this.digest ?? digest }).end()
  }

  #answer(response: ServerResponse, status: number, repository: string, id: string): void {
    const size = this.#sessions.get(id)?.size ?? 0
    response.writeHead(status, {
      location: `${this.origin}/v2/${repository}/blobs/uploads/${id}`,
      range: this.range ?? `0-${Math.max(0, size - 1)}`,
      ...(this.chunkMin > 0 ? { 'oci-chunk-min-length': this.chunkMin } : {}),
    })
    response.end()
  }

  /** The whole body; undefined where the connection was cut before its end. */
  async #body(
    request: IncomingMessage,
    onPart: (part: Buffer) => void = () => undefined,
  ): Promise<Buffer | undefined> {
    const parts: Buffer[] = []
    try {
      for await (const part of request) {
        parts.push(part as Buffer)
        onPart(part as Buffer)
      }
      return Buffer.concat(parts)
    } catch {
      return undefined
    }
  }
}
