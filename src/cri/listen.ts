import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { describe, Fault, isErrno } from '../base/fault.ts'
import type { Address } from './address.ts'
import type { Log } from './log.ts'

const CONNECTIONS_MAX = 32
const HEADER_BYTES_MAX = 8192
const REQUEST_TIMEOUT_MS = 5000
/** A living server answers a connect at once; the kernel does it. */
const CONNECT_TIMEOUT_MS = 1000

export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** A small HTTP server of the daemon. `answer` gets requests without a body; an error of it is a 500 with its words, and a line in the log. */
export async function listenHttp(
  address: Address,
  options: {
    readonly log: Log
    readonly answer: (method: string, url: URL) => Promise<Answer>
  },
): Promise<Server> {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: REQUEST_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: REQUEST_TIMEOUT_MS,
    },
    (request, response) => void reply(request, response, options),
  )
  server.maxConnections = CONNECTIONS_MAX
  if ('path' in address) await freeSocketPath(address.path)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new Fault('FAILED_PRECONDITION', `cannot listen on ${formatAddress(address)}`, {
          cause: error,
        }),
      ),
    )
    server.listen('path' in address ? { path: address.path } : { ...address }, resolve)
  })
  if ('path' in address) chmodSync(address.path, 0o600)
  server.on('error', (error) => options.log.error('http', { error }))
  return server
}

async function reply(
  request: IncomingMessage,
  response: ServerResponse,
  { log, answer }: Parameters<typeof listenHttp>[1],
): Promise<void> {
  response.on('error', () => {})
  // None of the requests has a body; what comes all the same is not kept.
  request.resume()
  try {
    const url = new URL(request.url ?? '/', 'http://localhost')
    const { status, type, body } = await answer(request.method ?? '', url)
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
    response.end(request.method === 'HEAD' ? '' : body)
  } catch (error) {
    log.error('http', { url: request.url, error })
    if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' })
    response.end(`${describe(error)}\n`)
  }
}

/**
 * Makes a path free for a socket: that of a server that is gone is removed. ALREADY_EXISTS where a server answers, FAILED_PRECONDITION where something else is
 * in the way. Two daemons that start at once are kept apart by the lock of the state directory, not by this.
 */
export async function freeSocketPath(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket()) {
    throw new Fault('FAILED_PRECONDITION', `cannot listen on ${path}: it is there and no socket`)
  }
  if (await isServed(path)) {
    throw new Fault('ALREADY_EXISTS', `cannot listen on ${path}: another server listens there`)
  }
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    const end = (served: boolean) => {
      socket.destroy()
      resolve(served)
    }
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => end(true))
    socket.once('connect', () => end(true))
    // EAGAIN: its queue is full, so somebody owns it.
    socket.once('error', (error) => end(!isErrno(error, 'ECONNREFUSED', 'ENOENT')))
  })
}

export function formatAddress(address: Address): string {
  if ('path' in address) return `unix:${address.path}`
  return address.host.includes(':')
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`
}

/** Closes at once, whoever is connected. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
