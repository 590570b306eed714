/**
 * V8 interprets what it has not run often, and what all calls have in common, gRPC and HTTP/2, is a quarter of the daemon's time. So a daemon that has nothing to
 * do calls itself some hundred times, on a socket of its own, where nobody counts and nothing is changed.
 */
import { rmSync } from 'node:fs'
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import type { Daemon } from './daemon.ts'
import { Log } from './log.ts'
import { Operations } from './operations.ts'
import { CriServer } from './server.ts'
import { criServices } from './wire.ts'

const AFTER_MS = 2000
/** While a call is under way. */
const PAUSE_MS = 50
const CALLS_MAX = 500
/** Of all threads: V8 compiles on others. */
const CPU_MS_MAX = 800
/**
 * In bytes of bytecode (`node --v8-options`): how much of a function has to be run before V8 thinks about compiling it. By its own 66 KiB, thousands of calls would not do.
 */
const BUDGET = 8000
const BUDGET_OF_V8 = 67584
/** A call that changes nothing, and is logged as those that do are. */
const METHOD = 'UpdateRuntimeConfig'
/** Of gRPC: no compression, no bytes. */
const EMPTY_MESSAGE = Buffer.alloc(5)

export interface WarmUp {
  /** Whether no call of others is under way. */
  readonly isIdle: () => boolean
  readonly signal: AbortSignal
}

/**
 * Listens, before the daemon takes calls: what they make must not have the mode that a socket gets. What it gives does the rest, and ends early when the signal
 * aborts; it must be called.
 */
export async function prepareWarmUp(
  daemon: Daemon,
  socket: string,
): Promise<(options: WarmUp) => Promise<void>> {
  const log = Log.to(nowhere(), { level: 'info', format: 'text' })
  const slowStageMs = Number.POSITIVE_INFINITY
  const operations = new Operations({ log, slowStageMs, tell: setImmediate })
  const server = new CriServer(daemon, socket, operations, () => daemon.configuration().limits)
  await server.listen()
  return async (options) => {
    try {
      // By then whoever has waited for the daemon has called, and one that was started for a moment has ended.
      await delay(AFTER_MS, undefined, { ref: false, signal: options.signal })
      await callAll(socket, options)
    } catch (error) {
      if (!options.signal.aborted) throw error
    } finally {
      await server.close(0)
      rmSync(socket, { force: true })
    }
  }
}

async function callAll(socket: string, { isIdle, signal }: WarmUp): Promise<void> {
  const path = criServices().RuntimeService[METHOD]?.path
  if (path === undefined) throw new TypeError(`the service has no ${METHOD}`)
  const client = connect('http://localhost', { createConnection: () => connectSocket(socket) })
  client.on('error', () => {})
  const before = process.cpuUsage()
  setFlagsFromString(`--interrupt-budget=${BUDGET}`)
  try {
    for (let calls = 0; calls < CALLS_MAX && !signal.aborted; ) {
      if (!isIdle()) await delay(PAUSE_MS, undefined, { ref: false, signal })
      else if (await call(client, path)) calls++
      else return
      const { user, system } = process.cpuUsage(before)
      if (user + system > CPU_MS_MAX * 1000) return
    }
  } finally {
    setFlagsFromString(`--interrupt-budget=${BUDGET_OF_V8}`)
    client.destroy()
  }
}

/** Whether it was answered. */
function call(client: ClientHttp2Session, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    if (client.destroyed || client.closed) return resolve(false)
    const stream = client.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.on('error', () => {})
    stream.on('close', () => resolve(stream.rstCode === constants.NGHTTP2_NO_ERROR))
    stream.resume()
    stream.end(EMPTY_MESSAGE)
  })
}

/** A place for lines that nobody reads. */
function nowhere(): Writable {
  return new Writable({ write: (_line, _encoding, done) => done() })
}
