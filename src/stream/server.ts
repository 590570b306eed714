import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createSecureContext } from 'node:tls'
import { createWebSocketStream } from 'ws'
import { Fault } from '../base/fault.ts'
import { aborted, type CommandOptions, runCommand } from './command.ts'
import {
  CONNECTIONS_MAX,
  CREATION_TIMEOUT_MS,
  IDLE_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  REQUEST_HEADERS_MS,
  SHUTDOWN_MS,
  TLS_HANDSHAKE_MS,
  WEBSOCKET_PORTS_MAX,
} from './limits.ts'
import { acceptSpdyCommand, COMMAND_PROTOCOLS, type CommandProtocol } from './spdy-command.ts'
import { acceptSpdyForward, FORWARD_PROTOCOL } from './spdy-forward.ts'
import { Tokens } from './tokens.ts'
import type {
  AttachRequest,
  ExecRequest,
  ForwardRequest,
  Handlers,
  Session,
  StreamRequest,
} from './types.ts'
import { acceptWebSocket, offeredProtocols } from './websocket.ts'
import { WEBSOCKET_COMMAND_PROTOCOLS, webSocketChannels } from './websocket-command.ts'
import {
  acceptWebSocketForward,
  TUNNEL_PROTOCOL,
  WEBSOCKET_FORWARD_PROTOCOLS,
} from './websocket-forward.ts'

/** PEM. */
export interface TlsPair {
  readonly certificate: string | Buffer
  readonly key: string | Buffer
}

export interface StreamServerOptions {
  /** 127.0.0.1 by default: kubelet is on this machine, and so nobody else need be let in. */
  readonly host?: string
  /** 0, the default, has the kernel choose. */
  readonly port?: number
  /** The host in the URLs, where clients reach it by another name than that it listens on. */
  readonly advertisedHost?: string
  readonly tls?: TlsPair
  /** Without a byte for so long, a connection is ended. 4 hours by default. */
  readonly idleTimeoutMs?: number
  /** In which a client must have opened its streams. 30 s by default. */
  readonly creationTimeoutMs?: number
  /** Told of what no client is: an error of ours. */
  readonly report?: (message: string, error: unknown) => void
}

/** What runs for one client. */
interface Running {
  readonly end: () => void
  readonly done: Promise<void>
}

const TLS_VERSION_MIN = 'TLSv1.2'

const PATH = /^\/(exec|attach|portforward)\/([A-Za-z0-9_-]{1,64})$/

/**
 * The streaming server of exec, attach and port-forward: gives out URLs that work once, and connects whoever comes with one to what the handlers open.
 * Clients speak SPDY/3.1 (kubelet, crictl) or Kubernetes' channels over a WebSocket.
 */
export class StreamServer {
  readonly #server: http.Server | https.Server
  readonly #handlers: Handlers
  #options: StreamServerOptions
  readonly #tokens = new Tokens<StreamRequest>()
  readonly #sockets = new Set<Socket>()
  readonly #running = new Set<Running>()
  #closing: Promise<void> | undefined

  private constructor(options: StreamServerOptions, handlers: Handlers) {
    this.#options = options
    this.#handlers = handlers
    const common = {
      headersTimeout: REQUEST_HEADERS_MS,
      connectionsCheckingInterval: REQUEST_HEADERS_MS,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      noDelay: true,
    }
    this.#server =
      options.tls === undefined
        ? http.createServer(common)
        : https.createServer({
            ...common,
            ...contextOf(options.tls),
            minVersion: TLS_VERSION_MIN,
            // One that speaks HTTP/2 could not upgrade.
            ALPNProtocols: ['http/1.1'],
            handshakeTimeout: TLS_HANDSHAKE_MS,
          })
    this.#server.maxConnections = CONNECTIONS_MAX
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    this.#server.on('request', (request, response) => {
      const { status, text } = this.#refusalOf(request) ?? NO_UPGRADE
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' })
      response.end(`${text}\n`)
    })
    this.#server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#upgrade(request, socket, head),
    )
  }

  /** Listens. FAILED_PRECONDITION where the address cannot be had, INVALID_ARGUMENT where certificate and key are no pair. */
  static async listen(options: StreamServerOptions, handlers: Handlers): Promise<StreamServer> {
    const streams = new StreamServer(options, handlers)
    const { host = '127.0.0.1', port = 0 } = options
    await new Promise<void>((resolve, reject) => {
      streams.#server.once('error', (error) => {
        reject(
          new Fault('FAILED_PRECONDITION', `cannot listen on ${host} port ${port} for streams`, {
            cause: error,
          }),
        )
      })
      streams.#server.listen({ host, port }, resolve)
    })
    // Such as no more file descriptors for accept: the next client may find some.
    streams.#server.on('error', (error) => streams.#report('the streaming server failed', error))
    return streams
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** A URL for the request, for one use within a minute. INVALID_ARGUMENT where it asks for what cannot be. */
  url(request: StreamRequest): string {
    checkRequest(request)
    if (this.#closing) throw new Fault('UNAVAILABLE', 'the streaming server is closed')
    const scheme = this.#options.tls === undefined ? 'http' : 'https'
    const { address } = this.#server.address() as AddressInfo
    const host = this.#options.advertisedHost ?? address
    const name = host.includes(':') ? `[${host}]` : host
    const token = this.#tokens.add(request)
    return `${scheme}://${name}:${this.port}/${request.kind}/${token}`
  }

  /** Another idle timeout and certificate, for what is opened from now on; where the server listens stays. */
  configure(options: Pick<StreamServerOptions, 'idleTimeoutMs' | 'tls'>): void {
    const { idleTimeoutMs, tls } = options
    this.#options = {
      ...this.#options,
      ...(idleTimeoutMs === undefined ? {} : { idleTimeoutMs }),
    }
    if (tls && this.#options.tls) this.reload(tls)
  }

  /** Another certificate for the connections to come. INVALID_ARGUMENT where it and the key are no pair; then the old one stays. */
  reload(tls: TlsPair): void {
    if (!(this.#server instanceof https.Server)) {
      throw new Fault('FAILED_PRECONDITION', 'the streaming server was started without TLS')
    }
    this.#server.setSecureContext({ ...contextOf(tls), minVersion: TLS_VERSION_MIN })
  }

  /** Ends all that runs, and the server. Called twice it is closed once. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#tokens.clear()
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    const running = [...this.#running]
    for (const { end } of running) end()
    const all = Promise.allSettled([closed, ...running.map(({ done }) => done)])
    const grace = new AbortController()
    await Promise.race([
      all,
      delay(SHUTDOWN_MS, undefined, { signal: grace.signal }).catch(() => {}),
    ])
    grace.abort()
    // A handler that does not heed its signal is not waited for.
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #report(message: string, error: unknown): void {
    this.#options.report?.(message, error)
  }

  /** What an ordinary request is told, and one to upgrade that comes with no token of ours. */
  #refusalOf(request: http.IncomingMessage): Refusal | undefined {
    if (PATH.test(pathOf(request))) {
      if (request.method !== 'GET' && request.method !== 'POST') return WRONG_METHOD
      // Whoever comes without an upgrade has used it up.
      if (this.#take(request) !== undefined) return undefined
    }
    return NOT_FOUND
  }

  #take(request: http.IncomingMessage): StreamRequest | undefined {
    const [, kind = '', token = ''] = PATH.exec(pathOf(request)) ?? []
    const asked = this.#tokens.take(token)
    return asked?.kind === kind ? asked : undefined
  }

  #upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    // What of it matters is heard from whoever takes the socket over.
    socket.on('error', () => socket.destroy())
    if (request.method !== 'GET' && request.method !== 'POST') {
      refuse(socket, WRONG_METHOD)
      return
    }
    const asked = this.#closing ? undefined : this.#take(request)
    if (asked === undefined) {
      refuse(socket, NOT_FOUND)
      return
    }
    const upgrade = (request.headers.upgrade ?? '').toLowerCase()
    if (upgrade === 'websocket') this.#overWebSocket(asked, request, socket, head)
    else if (upgrade.includes('spdy/3.1')) this.#overSpdy(asked, request, socket, head)
    else refuse(socket, NO_UPGRADE)
  }

  #overSpdy(
    asked: StreamRequest,
    request: http.IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    const accepted = asked.kind === 'portforward' ? [FORWARD_PROTOCOL] : COMMAND_PROTOCOLS
    const offered = listOf(request.headers['x-stream-protocol-version'])
    const chosen = offered.find((name) => (accepted as readonly string[]).includes(name))
    if (chosen === undefined && offered.length > 0) {
      refuse(socket, {
        status: 403,
        text: `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${accepted.join(' ')}]`,
        headers: accepted.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}`),
      })
      return
    }
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: SPDY/3.1']
    if (chosen !== undefined) lines.push(`X-Stream-Protocol-Version: ${chosen}`)
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
    if (asked.kind === 'portforward') {
      this.#forwardOverSpdy(asked, socket, head)
      return
    }
    const { connection, channels } = acceptSpdyCommand(socket, {
      protocol: (chosen ?? 'channel.k8s.io') as CommandProtocol,
      stdio: asked,
      idleTimeoutMs: this.#idleTimeoutMs,
      creationTimeoutMs: this.#creationTimeoutMs,
    })
    const run = async (): Promise<void> => {
      const opened = await channels
      if (opened !== undefined) await runCommand(opened, this.#commandOf(asked))
      connection.end()
    }
    this.#track(() => connection.end(), run())
    if (head.length > 0) connection.receive(head)
  }

  #forwardOverSpdy(asked: ForwardRequest, socket: Duplex, head: Buffer): void {
    const connection = acceptSpdyForward(socket, {
      target: asked.target,
      idleTimeoutMs: this.#idleTimeoutMs,
      creationTimeoutMs: this.#creationTimeoutMs,
      connect: (port, signal) => this.#handlers.portForward(asked, port, signal),
    })
    this.#track(() => connection.end(), aborted(connection.gone))
    if (head.length > 0) connection.receive(head)
  }

  #overWebSocket(
    asked: StreamRequest,
    request: http.IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    const offered = offeredProtocols(request)
    const accepted =
      asked.kind === 'portforward'
        ? [TUNNEL_PROTOCOL, ...WEBSOCKET_FORWARD_PROTOCOLS.keys()]
        : [...WEBSOCKET_COMMAND_PROTOCOLS.keys()]
    const protocol = offered.length === 0 ? '' : offered.find((name) => accepted.includes(name))
    if (protocol === undefined) {
      refuse(socket, {
        status: 403,
        text: `unable to upgrade: none of the subprotocols [${offered.join(' ')}] is supported`,
      })
      return
    }
    const ports = asked.kind === 'portforward' && protocol !== TUNNEL_PROTOCOL ? asked.ports : []
    if (asked.kind === 'portforward' && protocol !== TUNNEL_PROTOCOL && ports.length === 0) {
      refuse(socket, { status: 400, text: 'unable to upgrade: the request names no port' })
      return
    }
    const webSocket = acceptWebSocket(request, socket, head, protocol)
    if (webSocket === undefined) return
    if (asked.kind !== 'portforward') {
      const { socket: channelSocket, channels } = webSocketChannels(
        webSocket,
        protocol,
        asked,
        this.#idleTimeoutMs,
      )
      const run = async (): Promise<void> => {
        await runCommand(channels, this.#commandOf(asked))
        channelSocket.end()
      }
      this.#track(() => channelSocket.end(), run())
    } else if (protocol === TUNNEL_PROTOCOL) {
      this.#forwardOverSpdy(asked, createWebSocketStream(webSocket), Buffer.alloc(0))
    } else {
      const { socket: channelSocket, done } = acceptWebSocketForward(webSocket, protocol, {
        target: asked.target,
        ports,
        idleTimeoutMs: this.#idleTimeoutMs,
        connect: (port, signal) => this.#handlers.portForward(asked, port, signal),
      })
      this.#track(() => channelSocket.end(), done)
    }
  }

  #commandOf(asked: ExecRequest | AttachRequest): CommandOptions {
    const isExec = asked.kind === 'exec'
    return {
      failure: isExec ? 'error executing command in container' : 'error attaching to container',
      tellsCode: isExec,
      open: (signal): Promise<Session> =>
        asked.kind === 'exec'
          ? this.#handlers.exec(asked, signal)
          : this.#handlers.attach(asked, signal),
    }
  }

  #track(end: () => void, done: Promise<void>): void {
    const running: Running = {
      end,
      done: done
        .catch((error: unknown) => {
          this.#report('a stream ended with an error', error)
          end()
        })
        .finally(() => this.#running.delete(running)),
    }
    this.#running.add(running)
  }

  get #idleTimeoutMs(): number {
    return this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS
  }

  get #creationTimeoutMs(): number {
    return this.#options.creationTimeoutMs ?? CREATION_TIMEOUT_MS
  }
}

function checkRequest(request: StreamRequest): void {
  if (request.target === '') {
    throw new Fault('INVALID_ARGUMENT', `cannot open a stream for ${request.kind}: no target`)
  }
  if (request.kind === 'portforward') {
    if (request.ports.length > WEBSOCKET_PORTS_MAX) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `cannot forward ${request.ports.length} ports of pod ${request.target}: at most ${WEBSOCKET_PORTS_MAX} at once`,
      )
    }
    for (const port of request.ports) {
      if (Number.isInteger(port) && port >= 1 && port <= 65_535) continue
      throw new Fault(
        'INVALID_ARGUMENT',
        `cannot forward port ${port} of pod ${request.target}: not 1 to 65535`,
      )
    }
    return
  }
  const { kind, target, stdin, stdout, stderr, terminal } = request
  if (terminal && stderr) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `cannot ${kind} in container ${target}: a terminal has no stderr of its own`,
    )
  }
  if (!stdin && !stdout && !stderr) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `cannot ${kind} in container ${target}: one of stdin, stdout and stderr must be asked for`,
    )
  }
}

function contextOf({ certificate, key }: TlsPair): { cert: string | Buffer; key: string | Buffer } {
  const context = { cert: certificate, key }
  try {
    createSecureContext(context)
  } catch (error) {
    throw new Fault(
      'INVALID_ARGUMENT',
      'certificate and key of the streaming server are no valid pair',
      { cause: error },
    )
  }
  return context
}

interface Refusal {
  readonly status: number
  readonly text: string
  readonly headers?: readonly string[]
}

const NOT_FOUND: Refusal = { status: 404, text: '404 page not found' }
const WRONG_METHOD: Refusal = { status: 405, text: '405: Method Not Allowed' }
const NO_UPGRADE: Refusal = {
  status: 400,
  text: 'unable to upgrade: missing upgrade headers in request',
}

/** An answer on a socket that HTTP has let go of. */
function refuse(socket: Duplex, { status, text, headers = [] }: Refusal): void {
  const body = `${text}\n`
  const lines = [
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`,
    'Connection: close',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
  ]
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}

function pathOf(request: http.IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? ''
}

function listOf(header: string | string[] | undefined): string[] {
  return [header ?? []]
    .flat()
    .flatMap((line) => line.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '')
}
