import { execFileSync } from 'node:child_process'
import { createSign } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

const ISSUER = 'berth-test'
const SERVICE = 'berth-registry'

export interface TokenRequest {
  readonly method: string
  readonly authorization: string | undefined
  readonly scopes: readonly string[]
  readonly form: URLSearchParams
}

/** A token server as distribution's specification says it, whose tokens docker-registry believes. */
export class TokenServer {
  readonly asked: TokenRequest[] = []
  /** User and password; the identity token of a user is `identity-USER`. */
  readonly users = new Map<string, string>()
  /** Whether those without a login may pull. */
  isPublic = false
  readonly #server: Server
  readonly #certificate: string
  readonly #key: string

  private constructor(directory: string) {
    mkdirSync(directory, { recursive: true })
    this.#certificate = join(directory, 'token.crt')
    this.#key = join(directory, 'token.key')
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const out = ['-keyout', this.#key, '-out', this.#certificate, '-subj', '/CN=token']
    execFileSync('openssl', ['req', '-x509', ...made, ...out], { stdio: 'ignore' })
    this.#server = createServer((request, response) => {
      this.#answer(request).then(
        (token) => {
          if (token === undefined) response.writeHead(401).end('{}')
          else response.end(JSON.stringify({ token, access_token: token, expires_in: 300 }))
        },
        () => response.writeHead(500).end(),
      )
    })
  }

  static async start(directory: string): Promise<TokenServer> {
    const server = new TokenServer(directory)
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** The `auth` section of docker-registry's configuration. */
  get auth(): Record<string, unknown> {
    return this.authAt(this.host)
  }

  /** The same, for clients that come by way of another address. */
  authAt(host: string): Record<string, unknown> {
    const realm = `http://${host}/token`
    return { token: { realm, service: SERVICE, issuer: ISSUER, rootcertbundle: this.#certificate } }
  }

  async #answer(request: IncomingMessage): Promise<string | undefined> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const form = new URLSearchParams(Buffer.concat(parts).toString())
    const { searchParams } = new URL(request.url ?? '', 'http://token')
    const scopes = [
      ...searchParams.getAll('scope'),
      ...(form.get('scope') ?? '').split(' '),
    ].filter(Boolean)
    const { authorization } = request.headers
    this.asked.push({ method: request.method ?? '', authorization, scopes, form })
    const user = this.#user(authorization, form)
    if (user === undefined && (authorization !== undefined || !this.isPublic)) return undefined
    return this.#token(user ?? '', scopes, user === undefined ? ['pull'] : ['pull', 'push'])
  }

  #user(authorization: string | undefined, form: URLSearchParams): string | undefined {
    const isKnown = ([name, password]: [string, string]): boolean => {
      const pair = Buffer.from(`${name}:${password}`).toString('base64')
      return authorization === `Basic ${pair}` || form.get('refresh_token') === `identity-${name}`
    }
    return [...this.users].find(isKnown)?.[0]
  }

  #token(user: string, scopes: readonly string[], may: readonly string[]): string {
    const now = Math.floor(Date.now() / 1000)
    const access = scopes.map((scope) => {
      const [type = '', name = '', actions = ''] =
        /^([^:]*):(.*):([^:]*)$/.exec(scope)?.slice(1) ?? []
      return { type, name, actions: actions.split(',').filter((action) => may.includes(action)) }
    })
    const times = { iat: now - 10, nbf: now - 10, exp: now + 300 }
    const claims = { iss: ISSUER, aud: SERVICE, sub: user, jti: `${now}`, ...times, access }
    const pem = readFileSync(this.#certificate, 'utf8').replace(/-----[^-]+-----|\s/g, '')
    const encode = (value: unknown): string =>
      Buffer.from(JSON.stringify(value)).toString('base64url')
    const text = `${encode({ typ: 'JWT', alg: 'ES256', x5c: [pem] })}.${encode(claims)}`
    const key = { key: readFileSync(this.#key, 'utf8'), dsaEncoding: 'ieee-p1363' } as const
    return `${text}.${createSign('sha256').update(text).sign(key, 'base64url')}`
  }
}
