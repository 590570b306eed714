import { chmodSync, existsSync, mkdirSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js'
import { describe, Fault, grpcCode, isErrno } from '../base/fault.ts'
import { CALLS, STREAMS } from './calls/index.ts'
import type { Daemon } from './daemon.ts'
import { criServices } from './wire.ts'

/** A kubelet takes 16 MiB (its maxMsgSize); what it sends is far below. */
const RECEIVE_BYTES_MAX = 16 * 1024 * 1024
/** A node with thousands of pods in one list. */
const SEND_BYTES_MAX = 64 * 1024 * 1024
const UNKNOWN = 2

/** How a call is told of: its begin gives what is called at its end. */
export type Observer = (method: string, request: unknown) => (error?: unknown) => void

/** The CRI on a unix socket that root alone may open. */
export class CriServer {
  readonly #server: Server
  readonly #socket: string

  constructor(daemon: Daemon, socket: string, observe: Observer) {
    this.#socket = socket
    this.#server = new Server({
      'grpc.max_receive_message_length': RECEIVE_BYTES_MAX,
      'grpc.max_send_message_length': SEND_BYTES_MAX,
    })
    const handlers: Record<string, handleUnaryCall<unknown, unknown> | handleServerStreamingCall<unknown, unknown>> = {}
    for (const [name, act] of Object.entries(CALLS)) {
      handlers[name] = (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) =>
        void unary(name, act as Unary, daemon, observe, call, answer)
    }
    for (const [name, act] of Object.entries(STREAMS)) {
      handlers[name] = (call: ServerWritableStream<unknown, unknown>) =>
        void stream(name, act as Stream, daemon, observe, call)
    }
    for (const definition of Object.values(criServices())) {
      const missing = Object.keys(definition).filter((name) => !handlers[name])
      if (missing.length > 0) throw new Fault('INTERNAL', `no handler for ${missing.join(', ')}`)
      this.#server.addService(definition, handlers)
    }
  }

  async listen(): Promise<void> {
    await removeStale(this.#socket)
    mkdirSync(dirname(this.#socket), { recursive: true, mode: 0o755 })
    // Between bind and chmod nobody else can connect either.
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) =>
        this.#server.bindAsync(`unix:${this.#socket}`, ServerCredentials.createInsecure(), (error) =>
          error ? reject(error) : resolve(),
        ),
      )
    } finally {
      process.umask(umask)
    }
    chmodSync(this.#socket, 0o600)
  }

  /** Takes no more calls; those under way have `graceMs` to end. */
  async close(graceMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.#server.forceShutdown()
        resolve()
      }, graceMs)
      this.#server.tryShutdown(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

/** A socket that a daemon left when it was killed. One that somebody listens on is not ours to take. */
async function removeStale(path: string): Promise<void> {
  if (!existsSync(path)) return
  const isHeard = await new Promise<boolean>((resolve) => {
    const socket = connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
  if (isHeard)
    throw new Fault('FAILED_PRECONDITION', `another program listens on ${path}: stop it, or choose another socket`)
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

type Unary = (daemon: Daemon, request: unknown, signal: AbortSignal) => Promise<unknown>
type Stream = (daemon: Daemon, request: unknown, signal: AbortSignal) => AsyncIterable<unknown>

async function unary(
  name: string,
  act: Unary,
  daemon: Daemon,
  observe: Observer,
  call: ServerUnaryCall<unknown, unknown>,
  answer: sendUnaryData<unknown>,
): Promise<void> {
  const end = observe(name, call.request)
  const abort = new AbortController()
  call.on('cancelled', () => abort.abort())
  try {
    const reply = await act(daemon, call.request, abort.signal)
    end()
    answer(null, reply)
  } catch (error) {
    end(error)
    answer(status(error))
  }
}

async function stream(
  name: string,
  act: Stream,
  daemon: Daemon,
  observe: Observer,
  call: ServerWritableStream<unknown, unknown>,
): Promise<void> {
  const end = observe(name, call.request)
  const abort = new AbortController()
  call.on('cancelled', () => abort.abort())
  try {
    for await (const message of act(daemon, call.request, abort.signal)) {
      if (abort.signal.aborted) break
      if (!call.write(message)) await drained(call, abort.signal)
    }
    end()
    call.end()
  } catch (error) {
    end(error)
    call.emit('error', status(error))
  }
}

function drained(call: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off('drain', done)
      signal.removeEventListener('abort', done)
      resolve()
    }
    call.on('drain', done)
    signal.addEventListener('abort', done)
  })
}

/** Errors that the kubelet knows by the beginning of their text must come with the code UNKNOWN: only then it reads the text alone. */
const KNOWN_PREFIX = /^(RegistryUnavailable|SignatureValidationFailed|ImageVolumeMountFailed|RROUnsupported)\b/

function status(error: unknown): { code: number; details: string } {
  const details = describe(error)
  return { code: KNOWN_PREFIX.test(details) ? UNKNOWN : grpcCode(error), details }
}
