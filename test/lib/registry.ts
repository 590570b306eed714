import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Uploads } from './registry-uploads.ts'

/** One request as the registry saw it. */
export interface Seen {
  readonly method: string
  /** Path with query. */
  readonly path: string
  readonly host: string
  readonly authorization: string | undefined
  readonly range: string | undefined
  readonly headers: IncomingMessage['headers']
}

/** Answers instead of the registry, and returns true; or returns false to let it. */
export type Behaviour = (seen: Seen, response: ServerResponse) => boolean

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** What the registry asks for before it serves. */
export type Login =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** Tokens of its own `/token`, each good for one scope; with a user only for them. */
  | { readonly kind: 'bearer'; readonly username?: string; readonly password?: string }

/**
 * A registry on 127.0.0.1 that holds what it is given and behaves as badly as it is told: for the answers that no honest server gives.
 */
export class TestRegistry {
  readonly seen: Seen[] = []
  behave: Behaviour = () => false
  login: Login | undefined
  /** Takes what is pushed. */
  readonly uploads = new Uploads({
    blob: (repository, bytes) => this.blob(repository, bytes).digest,
    manifest: (repository, name, bytes, type) => void this.manifest(repository, name, bytes, type),
  })
  readonly #contents = new Map<string, { bytes: Uint8Array; type: string }>()
  readonly #tokens = new Map<string, string>()
  readonly #server: ReturnType<typeof createServer>
  readonly #isTls: boolean

  private constructor(tls: { key: string; cert: string } | undefined) {
    this.#isTls = tls !== undefined
    const handle = (request: IncomingMessage, response: ServerResponse): void =>
      this.#handle(request, response)
    this.#server = tls === undefined ? createServer(handle) : createTlsServer(tls, handle)
  }

  static async start(tls?: { key: string; cert: string }): Promise<TestRegistry> {
    const registry = new TestRegistry(tls)
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve))
    return registry
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get url(): string {
    return `${this.#isTls ? 'https' : 'http'}://${this.host}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** Adds a blob; its digest. */
  blob(repository: string, bytes: Uint8Array): { digest: string; size: number } {
    const digest = sha256(bytes)
    this.#contents.set(`/v2/${repository}/blobs/${digest}`, {
      bytes,
      type: 'application/octet-stream',
    })
    return { digest, size: bytes.length }
  }

  /** Adds a manifest or index, by digest and by tag; its descriptor. */
  manifest(
    repository: string,
    tag: string,
    document: unknown,
    type: string,
  ): { mediaType: string; digest: string; size: number } {
    const bytes = document instanceof Uint8Array ? document : Buffer.from(JSON.stringify(document))
    const digest = sha256(bytes)
    for (const name of [tag, digest]) {
      this.#contents.set(`/v2/${repository}/manifests/${name}`, { bytes, type })
    }
    return { mediaType: type, digest, size: bytes.length }
  }

  /** What it would serve there. */
  content(path: string): Uint8Array {
    return this.#contents.get(new URL(path, this.url).pathname)?.bytes ?? new Uint8Array()
  }

  /** Requests for a path that holds this text. */
  count(text: string): number {
    return this.seen.filter(({ path }) => path.includes(text)).length
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const seen: Seen = {
      method: request.method ?? '',
      path: request.url ?? '',
      host: request.headers.host ?? '',
      authorization: request.headers.authorization,
      range: request.headers.range,
      headers: request.headers,
    }
    this.seen.push(seen)
    if (this.behave(seen, response)) return
    const url = new URL(seen.path, this.url)
    if (url.pathname === '/token') {
      this.#token(url, seen, response)
      return
    }
    if (!this.#isAllowed(seen, url, response)) return
    if (this.uploads.handle(request, response)) return
    const content = this.#contents.get(url.pathname)
    if (content === undefined) {
      response.writeHead(404, { 'content-type': 'application/json' })
      response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
      return
    }
    serve(seen, content, response)
  }

  #isAllowed(seen: Seen, url: URL, response: ServerResponse): boolean {
    const { login } = this
    if (login === undefined) return true
    const scope = `repository:${/^\/v2\/(.*)\/(?:manifests|blobs)\//.exec(url.pathname)?.[1]}:pull`
    const given = seen.authorization
    if (login.kind === 'basic') {
      if (given === basic(login)) return true
      response.setHeader('www-authenticate', 'Basic realm="test"')
    } else {
      if (given?.startsWith('Bearer ') && this.#tokens.get(given.slice(7)) === scope) return true
      response.setHeader(
        'www-authenticate',
        `Bearer realm="${this.url}/token",service="test, registry",scope="${scope}"`,
      )
    }
    response.writeHead(401, { 'content-type': 'application/json' })
    response.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
    return false
  }

  #token(url: URL, seen: Seen, response: ServerResponse): void {
    const { login } = this
    if (login?.username !== undefined) {
      const { username, password = '' } = login
      if (seen.authorization !== basic({ username, password })) {
        response.writeHead(401).end('{}')
        return
      }
    }
    const token = `t${this.#tokens.size}`
    this.#tokens.set(token, url.searchParams.get('scope') ?? '')
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ token, expires_in: 300 }))
  }

  /** Makes every token worthless, as if its time were over. */
  expireTokens(): void {
    this.#tokens.clear()
  }
}

function basic(login: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`
}

function serve(
  seen: Seen,
  content: { bytes: Uint8Array; type: string },
  response: ServerResponse,
): void {
  const { bytes, type } = content
  const start = Number(/^bytes=([0-9]+)-$/.exec(seen.range ?? '')?.[1] ?? 0)
  const body = bytes.subarray(start)
  const headers: Record<string, string | number> = {
    'content-type': type,
    'content-length': body.length,
  }
  if (seen.range !== undefined) {
    headers['content-range'] = `bytes ${start}-${bytes.length - 1}/${bytes.length}`
  }
  response.writeHead(seen.range === undefined ? 200 : 206, headers)
  response.end(seen.method === 'HEAD' ? undefined : body)
}
