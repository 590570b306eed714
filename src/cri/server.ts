import { chmodSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js'
import { describe, Fault, grpcCode } from '../base/fault.ts'
import type { Stage } from '../base/stage.ts'
import type { Node } from '../pod/index.ts'
import { CALLS, STREAMS } from './calls/index.ts'
import type { Daemon } from './daemon.ts'
import { freeSocketPath } from './listen.ts'
import type { Operations } from './operations.ts'
import { criServices } from './wire.ts'

const UNKNOWN = 2

export interface ServerLimits {
  /** Of one message. */
  readonly messageBytes: number
  readonly inFlightCalls: number
}

/** The CRI on a unix socket that root alone may open. */
export class CriServer {
  readonly #server: Server
  readonly #socket: string
  readonly #ending = new AbortController()

  constructor(daemon: Daemon, socket: string, operations: Operations, limits: () => ServerLimits) {
    this.#socket = socket
    const { messageBytes } = limits()
    this.#server = new Server({
      'grpc.max_receive_message_length': messageBytes,
      'grpc.max_send_message_length': messageBytes,
      // Books of grpc-js about itself, which nobody can read here.
      'grpc.enable_channelz': 0,
    })
    const context: Context = { daemon, operations, limits, ending: this.#ending.signal }
    const handlers: Record<
      string,
      handleUnaryCall<unknown, unknown> | handleServerStreamingCall<unknown, unknown>
    > = {}
    for (const [name, act] of Object.entries(CALLS)) {
      handlers[name] = (call: ServerUnaryCall<unknown, unknown>, answer: sendUnaryData<unknown>) =>
        void unary(name, act as Unary, context, call, answer)
    }
    for (const [name, act] of Object.entries(STREAMS)) {
      handlers[name] = (call: ServerWritableStream<unknown, unknown>) =>
        void stream(name, act as Stream, context, call)
    }
    for (const definition of Object.values(criServices())) {
      const missing = Object.keys(definition).filter((name) => !handlers[name])
      if (missing.length > 0) throw new Fault('INTERNAL', `no handler for ${missing.join(', ')}`)
      this.#server.addService(definition, handlers)
    }
  }

  async listen(): Promise<void> {
    mkdirSync(dirname(this.#socket), { recursive: true, mode: 0o755 })
    await freeSocketPath(this.#socket)
    // Between bind and chmod nobody else can connect either.
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) =>
        this.#server.bindAsync(
          `unix:${this.#socket}`,
          ServerCredentials.createInsecure(),
          (error) => (error ? reject(error) : resolve()),
        ),
      )
    } finally {
      process.umask(umask)
    }
    chmodSync(this.#socket, 0o600)
  }

  /** Takes no more calls; those under way have `graceMs` to end, but streams that never end by themselves end now: the next daemon waits for this one. */
  async close(graceMs: number): Promise<void> {
    this.#ending.abort()
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

type Unary = (
  daemon: Daemon,
  request: unknown,
  signal: AbortSignal,
  stage: Stage,
) => Promise<unknown>
type Stream = (daemon: Daemon, request: unknown, signal: AbortSignal) => AsyncIterable<unknown>

interface Context {
  readonly daemon: Daemon
  readonly operations: Operations
  readonly limits: () => ServerLimits
  readonly ending: AbortSignal
}

async function unary(
  name: string,
  act: Unary,
  context: Context,
  call: ServerUnaryCall<unknown, unknown>,
  answer: sendUnaryData<unknown>,
): Promise<void> {
  const abort = new AbortController()
  let isDone = false
  // grpc-js says so of every call, at its end.
  call.on('cancelled', () => {
    if (!isDone) abort.abort()
  })
  try {
    mustHaveRoom(context)
    const { daemon, operations } = context
    const reply = await operations.run(
      name,
      subjectOf(call.request, daemon.node),
      ({ stage }) => act(daemon, call.request, abort.signal, stage),
      PATIENCE[name] === undefined ? {} : { patienceMs: PATIENCE[name] },
    )
    isDone = true
    answer(null, reply)
  } catch (error) {
    isDone = true
    answer(status(error))
  }
}

/** Calls that last as long as somebody outside likes: a slow stage of theirs is no news. */
const PATIENCE: Readonly<Record<string, number>> = {
  ExecSync: Number.POSITIVE_INFINITY,
  StopContainer: Number.POSITIVE_INFINITY,
  PullImage: Number.POSITIVE_INFINITY,
}

function mustHaveRoom({ operations, limits }: Context): void {
  const { inFlightCalls } = limits()
  if (operations.size < inFlightCalls) return
  throw new Fault(
    'RESOURCE_EXHAUSTED',
    `${inFlightCalls} calls are under way already (limits.in_flight_calls): try again`,
  )
}

type Known = Pick<Node, 'pods' | 'containers'>

interface Named {
  readonly metadata?: { readonly name?: string; readonly namespace?: string }
}

/** What a call is about, for the log: the ids and names that requests have. */
export function subjectOf(request: unknown, node: Known): string {
  const of = request as {
    readonly containerId?: string
    readonly podSandboxId?: string
    readonly config?: Named
    readonly sandboxConfig?: Named
    readonly image?: { readonly image?: string }
  }
  const pod = of.sandboxConfig?.metadata
  const own = of.config?.metadata
  // With the image of a pull comes its pod's configuration: the image is what it is about.
  const named = own && path(pod?.namespace ?? own.namespace, pod?.name, own.name)
  return (
    ofContainer(node, of.containerId) ||
    named ||
    ofPod(node, of.podSandboxId) ||
    of.image?.image ||
    ''
  )
}

const path = (...names: readonly (string | undefined)[]): string => names.filter(Boolean).join('/')

/** The id alone tells a person nothing, and the names alone are those of every attempt. */
function ofContainer(node: Known, id: string | undefined): string | undefined {
  const container = id === undefined ? undefined : node.containers.get(id)
  if (!container) return id
  const pod = container.pod.record.config.metadata
  return `${path(pod?.namespace, pod?.name, container.record.config.metadata?.name)}@${id}`
}

function ofPod(node: Known, id: string | undefined): string | undefined {
  const metadata = id === undefined ? undefined : node.pods.get(id)?.record.config.metadata
  return metadata ? `${path(metadata.namespace, metadata.name)}@${id}` : id
}

async function stream(
  name: string,
  act: Stream,
  context: Context,
  call: ServerWritableStream<unknown, unknown>,
): Promise<void> {
  const abort = new AbortController()
  const stop = (): void => abort.abort()
  call.on('cancelled', stop)
  if (name === 'GetContainerEvents') context.ending.addEventListener('abort', stop)
  try {
    mustHaveRoom(context)
    const { daemon, operations } = context
    await operations.run(
      name,
      '',
      async () => {
        for await (const message of act(daemon, call.request, abort.signal)) {
          if (abort.signal.aborted) break
          if (!call.write(message)) await drained(call, abort.signal)
        }
      },
      { patienceMs: Number.POSITIVE_INFINITY },
    )
    call.end()
  } catch (error) {
    call.emit('error', status(error))
  } finally {
    context.ending.removeEventListener('abort', stop)
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
const KNOWN_PREFIX =
  /^(RegistryUnavailable|SignatureValidationFailed|ImageVolumeMountFailed|RROUnsupported)\b/

function status(error: unknown): { code: number; details: string } {
  const details = describe(error)
  return { code: KNOWN_PREFIX.test(details) ? UNKNOWN : grpcCode(error), details }
}
