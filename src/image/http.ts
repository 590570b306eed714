import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createSecureContext, rootCertificates as rootCertificatesOfNode } from 'node:tls'
import { monotonicMs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { Slots } from '../base/slots.ts'
import { proxyFor, proxyHeaders, tunnelAgent } from './proxy.ts'

const REDIRECTS_MAX = 5
/** Requests of this process to one host at once, of all pulls and pushes together: a registry is not to be run down. */
const REQUESTS_PER_HOST_MAX = 16
const ATTEMPTS_MAX = 5
/** Attempts that take long, as a name server's time out does, are given up sooner: the kubelet pulls one image after the other. */
const RETRY_PATIENCE_MS = 10_000
const BACKOFF_FIRST_MS = 100
/** Each pause is so much longer than the one before. */
const BACKOFF_GROWTH = 3
const BACKOFF_MAX_MS = 10_000
/** The longest that a server's Retry-After is waited for; a longer one ends the attempts. */
const RETRY_AFTER_MAX_MS = 120_000
/** Bytes a second below which a transfer counts as standing still: a server that drips keeps nobody waiting for ever. */
const RATE_MIN = 256

export interface Timeouts {
  /** Until the connection stands, TLS included. */
  readonly connectMs: number
  /** From the request to the first byte of the answer. */
  readonly answerMs: number
  /** Without a byte of the body, or with hardly any (RATE_MIN). */
  readonly stallMs: number
  /** For a small document whole: a manifest, a configuration, a token. */
  readonly documentMs: number
}

export const TIMEOUTS: Timeouts = {
  connectMs: 30_000,
  answerMs: 60_000,
  stallMs: 60_000,
  documentMs: 180_000,
}

/** How to speak TLS to a host: PEM files from hosts.toml. */
export interface TlsFiles {
  readonly ca: readonly string[]
  /** Certificate and key; a file with both has an empty key. */
  readonly client: readonly { readonly certificate: string; readonly key: string }[]
  readonly skipVerify: boolean
}

export const PLAIN_TLS: TlsFiles = { ca: [], client: [], skipVerify: false }

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  /** Not flowing; a caller reads it to its end or destroys it. */
  readonly body: Readable
  /** Where the answer came from, after redirects. */
  readonly url: URL
  readonly timeouts: Timeouts
}

/** What a request sends. Called once for each attempt. */
export interface RequestBody {
  readonly length: number
  readonly read: () => AsyncIterable<Uint8Array>
}

export interface Request {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: RequestBody | undefined
  readonly tls: TlsFiles
  /** In place of `Timeouts.connectMs`. */
  readonly connectMs?: number | undefined
  readonly signal: AbortSignal | undefined
}

/** Bytes at hand as a body. */
export function bodyOf(content: string | Uint8Array): RequestBody {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  return {
    length: bytes.length,
    read: async function* () {
      if (bytes.length > 0) yield bytes
    },
  }
}

/** By origin. Entries go when nobody uses them. */
const slotsOfHosts = new Map<string, Slots>()

async function takeSlot(url: URL, signal: AbortSignal | undefined): Promise<Disposable> {
  const key = url.origin
  const slots = slotsOfHosts.get(key) ?? new Slots(REQUESTS_PER_HOST_MAX)
  slotsOfHosts.set(key, slots)
  const slot = await slots.take(signal)
  return {
    [Symbol.dispose]: () => {
      slot[Symbol.dispose]()
      if (slots.isIdle && slotsOfHosts.get(key) === slots) slotsOfHosts.delete(key)
    },
  }
}

/**
 * Node's own http and https with one connection pool for each way of speaking TLS. Not fetch: it takes no CA and no client
 * certificate without undici as a dependency, and follows redirects where we must look at each. Proxies are those of the environment.
 */
export class Http {
  readonly #timeouts: Timeouts
  readonly #environment: NodeJS.ProcessEnv
  readonly #plain = new http.Agent({ keepAlive: true, maxSockets: REQUESTS_PER_HOST_MAX })
  readonly #secure = new Map<string, https.Agent>()

  constructor(timeouts: Partial<Timeouts> = {}, environment: NodeJS.ProcessEnv = process.env) {
    this.#timeouts = { ...TIMEOUTS, ...timeouts }
    this.#environment = environment
  }

  /** Closes idle connections: nothing of ours keeps the process alive. */
  close(): void {
    this.#plain.destroy()
    for (const agent of this.#secure.values()) agent.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** One request, with redirects followed for GET and HEAD. UNAVAILABLE where no answer comes. */
  async send(request: Request): Promise<Answer> {
    let { url } = request
    let headers = request.headers
    let { tls } = request
    for (let hop = 0; ; hop++) {
      const answer = await this.#once({ ...request, url, headers, tls })
      const { location } = answer.headers
      // What a request has sent to one address is not sent to another because that address says so.
      const mayFollow = request.method === 'GET' || request.method === 'HEAD'
      if (!isRedirect(answer.status) || location === undefined || !mayFollow) return answer
      answer.body.destroy()
      const next = nextUrl(url, location)
      if (hop >= REDIRECTS_MAX) {
        throw new Fault('UNAVAILABLE', `${url.host} redirects more than ${REDIRECTS_MAX} times`)
      }
      if (next.origin !== url.origin) {
        // What was meant for one host is not for another (CVE-2018-1000007's class): no credentials, no configured header, no client certificate.
        headers = publicHeaders(headers)
        tls = PLAIN_TLS
      }
      url = next
    }
  }

  #agent(tls: TlsFiles, proxy: URL | undefined): https.Agent {
    const key = JSON.stringify([tls, proxy?.href])
    const known = this.#secure.get(key)
    if (known !== undefined) return known
    const read = (path: string): Buffer => {
      try {
        return readFileSync(path)
      } catch (error) {
        throw new Fault('INVALID_ARGUMENT', `cannot read the TLS file ${path}`, { cause: error })
      }
    }
    // Once, and not by Node for each connection: reading a distribution's bundle takes 25 ms.
    const secureContext = createSecureContext({
      // Those of hosts.toml are taken beside the system's and not in their place, as containerd does.
      ca: [...rootCertificates(), ...tls.ca.map(read)],
      ...(tls.client.length > 0
        ? {
            cert: tls.client.map((pair) => read(pair.certificate)),
            key: tls.client.map((pair) => read(pair.key === '' ? pair.certificate : pair.key)),
          }
        : {}),
    })
    const options: https.AgentOptions = {
      keepAlive: true,
      maxSockets: REQUESTS_PER_HOST_MAX,
      rejectUnauthorized: !tls.skipVerify,
      secureContext,
    }
    const agent = proxy === undefined ? new https.Agent(options) : tunnelAgent(proxy, options)
    this.#secure.set(key, agent)
    return agent
  }

  async #once(request: Request): Promise<Answer> {
    const { url, signal } = request
    if (url.protocol !== 'https:' && url.protocol !== 'http:') {
      throw new Fault('INVALID_ARGUMENT', `${url.protocol} is no way to reach a registry`)
    }
    const slot = await takeSlot(url, signal)
    try {
      const answer = await this.#exchange(request)
      if (answer.body.closed) slot[Symbol.dispose]()
      else answer.body.once('close', () => slot[Symbol.dispose]())
      return answer
    } catch (error) {
      slot[Symbol.dispose]()
      throw error
    }
  }

  #open(request: Request): http.ClientRequest {
    const { url, body, method } = request
    const proxy = proxyFor(url, this.#environment)
    const headers = {
      'user-agent': 'berth',
      ...request.headers,
      ...(body === undefined ? {} : { 'content-length': String(body.length) }),
    }
    const options = { method, headers }
    if (url.protocol === 'https:') {
      return https.request(url, { ...options, agent: this.#agent(request.tls, proxy) })
    }
    if (proxy === undefined) return http.request(url, { ...options, agent: this.#plain })
    if (proxy.protocol === 'https:') {
      throw new Fault('UNIMPLEMENTED', `HTTP_PROXY: plain HTTP goes through no https:// proxy`)
    }
    return http.request({
      ...options,
      agent: this.#plain,
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port || 80,
      path: url.href,
      headers: { ...headers, ...proxyHeaders(proxy), host: url.host },
    })
  }

  #exchange(request: Request): Promise<Answer> {
    const { url, signal, body } = request
    const { answerMs, stallMs } = this.#timeouts
    const connectMs = request.connectMs ?? this.#timeouts.connectMs
    return new Promise((resolve, reject) => {
      const outgoing = this.#open(request)
      let timer: NodeJS.Timeout | undefined
      const within = (what: string, ms: number): void => {
        clearTimeout(timer)
        timer = setTimeout(
          () => stop(new Fault('UNAVAILABLE', `${url.host} gave no ${what} for ${ms / 1000} s`)),
          ms,
        )
      }
      // A request that has no connection yet does not tell of its end by itself.
      const stop = (error: Error): void => {
        reject(error)
        outgoing.destroy(error)
      }
      const aborted = (): void => {
        clearTimeout(timer)
        stop(signal?.reason)
      }
      signal?.addEventListener('abort', aborted, { once: true })
      outgoing.once('close', () => signal?.removeEventListener('abort', aborted))
      within('connection', connectMs)
      let isAnswered = false
      outgoing.on('error', (error) => {
        clearTimeout(timer)
        reject(signal?.aborted ? signal.reason : unreachable(error, url))
      })
      outgoing.on('response', (incoming) => {
        isAnswered = true
        clearTimeout(timer)
        resolve({
          status: incoming.statusCode ?? 0,
          headers: incoming.headers,
          body: incoming,
          url,
          timeouts: this.#timeouts,
        })
      })
      outgoing.on('socket', (socket) => {
        const connected = (): void => {
          if (!isAnswered) within('answer', answerMs)
        }
        const isSecure = url.protocol === 'https:'
        if (!socket.connecting) connected()
        else socket.once(isSecure ? 'secureConnect' : 'connect', connected)
      })
      if (body === undefined) {
        outgoing.end()
        return
      }
      const tick = (): void => {
        if (!isAnswered) within('sign of reading', stallMs)
      }
      send(outgoing, body, tick).then(
        () => {
          if (!isAnswered) within('answer', answerMs)
        },
        // A server may answer and close before it has all: then the answer says why.
        (error) => outgoing.destroy(error),
      )
    })
  }
}

/** Writes the body as fast as it is taken; `tick` before each wait for that. */
async function send(
  outgoing: http.ClientRequest,
  body: RequestBody,
  tick: () => void,
): Promise<void> {
  let length = 0
  for await (const chunk of body.read()) {
    if (outgoing.destroyed) return
    length += chunk.length
    if (outgoing.write(chunk)) continue
    tick()
    const ended = new AbortController()
    const gone = (): void => ended.abort()
    outgoing.once('close', gone)
    try {
      await once(outgoing, 'drain', { signal: ended.signal })
    } catch {
      return
    } finally {
      outgoing.off('close', gone)
    }
  }
  if (length !== body.length) {
    throw new Fault('DATA_LOSS', `${length} bytes were there to send, not ${body.length}`)
  }
  outgoing.end()
}

let systemRoots: string | undefined

/** The bundle that the distribution keeps, where a company's CA is too; Node's own where there is none. */
function rootCertificates(): string[] {
  if (systemRoots === undefined) {
    systemRoots = ''
    for (const path of [
      process.env['SSL_CERT_FILE'] ?? '',
      '/etc/ssl/certs/ca-certificates.crt',
      '/etc/pki/tls/certs/ca-bundle.crt',
      '/etc/ssl/cert.pem',
    ]) {
      if (path === '') continue
      try {
        systemRoots = readFileSync(path, 'utf8')
        break
      } catch (error) {
        if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
      }
    }
  }
  return systemRoots === '' ? [...rootCertificatesOfNode] : [systemRoots]
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308
}

function nextUrl(from: URL, location: string): URL {
  let next: URL
  try {
    next = new URL(location, from)
  } catch (error) {
    throw new Fault('UNAVAILABLE', `${from.host} redirects to an invalid address`, { cause: error })
  }
  if (next.protocol === from.protocol) return next
  if (from.protocol === 'http:' && next.protocol === 'https:') return next
  throw new Fault(
    'PERMISSION_DENIED',
    `${from.host} redirects from ${from.protocol} to ${next.protocol}, which is less safe`,
  )
}

function publicHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (['accept', 'range', 'user-agent'].includes(name.toLowerCase())) kept[name] = value
  }
  return kept
}

/** Certificate errors stay as they come again; everything else of the network may pass. */
const LASTING =
  /^(?:ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_SSL|EPROTO|ERR_INVALID|HPE_)/

function unreachable(error: Error, url: URL): Fault {
  if (error instanceof Fault) return error
  const code = 'code' in error ? String(error.code) : ''
  if (LASTING.test(code)) {
    return new Fault(
      'FAILED_PRECONDITION',
      `cannot speak to ${url.host} by ${url.protocol}//: ${error.message}`,
      {
        cause: error,
      },
    )
  }
  return new Fault('UNAVAILABLE', `cannot reach ${url.host}`, { cause: error })
}

/**
 * The body's bytes. UNAVAILABLE when the connection breaks, stands still or drips: the clock runs only while we wait for the network, so a
 * slow reader is not taken for a stalled server. `withinMs` limits the whole. The connection is dropped when the reader stops early.
 */
export async function* chunksOf(answer: Answer, withinMs?: number): AsyncGenerator<Uint8Array> {
  const { body, url } = answer
  const { stallMs } = answer.timeouts
  const iterator = body[Symbol.asyncIterator]()
  const stop = (ms: number): NodeJS.Timeout => {
    const late = (): void => {
      body.destroy(new Fault('UNAVAILABLE', `${url.host} sent too little in ${ms / 1000} s`))
    }
    return setTimeout(late, ms)
  }
  const whole = withinMs === undefined ? undefined : stop(withinMs)
  let waitedMs = 0
  let bytes = 0
  try {
    for (;;) {
      const sinceMs = monotonicMs()
      const timer = stop(stallMs)
      let next: IteratorResult<Uint8Array>
      try {
        next = await iterator.next()
      } catch (error) {
        throw error instanceof Error && error.name !== 'AbortError'
          ? unreachable(error, url)
          : error
      } finally {
        clearTimeout(timer)
      }
      if (next.done) return
      waitedMs += monotonicMs() - sinceMs
      bytes += next.value.length
      if (waitedMs >= stallMs) {
        if (bytes < (RATE_MIN * waitedMs) / 1000) {
          throw new Fault('UNAVAILABLE', `${url.host} sent ${bytes} bytes in ${waitedMs / 1000} s`)
        }
        waitedMs = 0
        bytes = 0
      }
      yield next.value
    }
  } finally {
    clearTimeout(whole)
    body.destroy()
  }
}

/** A small document whole, in the time for one. */
export function documentOf(answer: Answer, bytesMax: number, what: string): Promise<Buffer> {
  return readAtMost(chunksOf(answer, answer.timeouts.documentMs), bytesMax, what)
}

/** A body of at most so many bytes; the connection is dropped where there are more. */
export async function readAtMost(
  body: AsyncIterable<Uint8Array>,
  bytesMax: number,
  what: string,
): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > bytesMax) {
      throw new Fault('RESOURCE_EXHAUSTED', `${what} is longer than ${bytesMax} bytes`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** What a failed attempt may say about the next one. */
export class Retry {
  readonly fault: Fault
  readonly afterMs: number | undefined
  constructor(fault: Fault, afterMs?: number) {
    this.fault = fault
    this.afterMs = afterMs
  }
}

/** Milliseconds of a Retry-After header: seconds or a date (RFC 9110, 10.2.3). */
export function retryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined
  if (/^[0-9]{1,9}$/.test(value)) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs)
}

/**
 * Calls `attempt` until it returns no Retry, with growing pauses in which an abort is heard. `progressed` tells that the last attempt
 * got somewhere: then the count begins anew, so a long transfer survives any number of cuts.
 */
export async function retrying<T>(
  attempt: () => Promise<T | Retry>,
  options: { signal: AbortSignal | undefined; progressed?: () => boolean; patienceMs?: number },
): Promise<T> {
  let since = monotonicMs()
  for (let count = 1; ; count++) {
    const result = await attempt()
    if (!(result instanceof Retry)) return result
    if (options.progressed?.()) {
      count = 1
      since = monotonicMs()
    }
    const { afterMs } = result
    if (count >= ATTEMPTS_MAX || (afterMs ?? 0) > RETRY_AFTER_MAX_MS) throw result.fault
    const patienceMs = options.patienceMs ?? RETRY_PATIENCE_MS
    if (afterMs === undefined && monotonicMs() - since > patienceMs) throw result.fault
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * BACKOFF_GROWTH ** (count - 1))
    // Half of it by chance: hosts that failed together do not come back together.
    const pause = afterMs ?? backoff / 2 + (Math.random() * backoff) / 2
    try {
      await delay(pause, undefined, options.signal === undefined ? {} : { signal: options.signal })
    } catch {
      options.signal?.throwIfAborted()
    }
  }
}
