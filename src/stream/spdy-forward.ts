import { setMaxListeners } from 'node:events'
import type { Duplex } from 'node:stream'
import { Fault } from '../base/fault.ts'
import { forward } from './forward.ts'
import { SpdyConnection, type SpdyStream } from './spdy-connection.ts'
import { errorText } from './status.ts'

export const FORWARD_PROTOCOL = 'portforward.k8s.io'

export interface SpdyForwardOptions {
  /** For the words of an error. */
  readonly target: string
  readonly idleTimeoutMs: number
  readonly creationTimeoutMs: number
  readonly connect: (port: number, signal: AbortSignal) => Promise<Duplex>
}

/** The two streams of one forwarded connection. */
interface Pair {
  data?: SpdyStream
  error?: SpdyStream
  timer?: NodeJS.Timeout
}

const PORT_MAX = 65_535

/** Any number of connections, to any ports, over one connection of a client: each is a stream for its bytes and one for its error. */
export function acceptSpdyForward(socket: Duplex, options: SpdyForwardOptions): SpdyConnection {
  /** Those that wait for their second stream, by the client's name for them. */
  const pairs = new Map<string, Pair>()
  const connection = new SpdyConnection(socket, {
    idleTimeoutMs: options.idleTimeoutMs,
    accept: (stream) => {
      const name = stream.headers.get('streamtype')
      if (portOf(stream) === undefined || (name !== 'data' && name !== 'error')) return false
      const request = requestOf(stream, name)
      const pair = pairs.get(request) ?? {}
      if (pair[name] !== undefined) return false
      pair[name] = stream
      if (pair.data && pair.error) {
        clearTimeout(pair.timer)
        pairs.delete(request)
        // After the reply, without which the client takes no data.
        setImmediate(forwardPair, pair.data, pair.error, options)
        return true
      }
      pairs.set(request, pair)
      pair.timer = setTimeout(() => {
        pairs.delete(request)
        void giveUp(pair, options)
      }, options.creationTimeoutMs)
      return true
    },
  })
  connection.gone.addEventListener('abort', () => {
    for (const { timer } of pairs.values()) clearTimeout(timer)
    pairs.clear()
  })
  return connection
}

function portOf(stream: SpdyStream): number | undefined {
  const text = stream.headers.get('port') ?? ''
  if (!/^[0-9]{1,5}$/.test(text)) return undefined
  const port = Number(text)
  return port >= 1 && port <= PORT_MAX ? port : undefined
}

/** Clients from before the header `requestID` open the error stream and then, with the next number, that of the data. */
function requestOf(stream: SpdyStream, name: 'data' | 'error'): string {
  const id = stream.headers.get('requestid') ?? ''
  if (id !== '') return `named ${id}`
  return `numbered ${name === 'error' ? stream.id : stream.id - 2}`
}

function forwardPair(data: SpdyStream, error: SpdyStream, options: SpdyForwardOptions): void {
  void forwardOne(data, error, options)
}

async function forwardOne(
  data: SpdyStream,
  error: SpdyStream,
  options: SpdyForwardOptions,
): Promise<void> {
  // Nothing is said to us there.
  error.input.discard()
  const gone = new AbortController()
  setMaxListeners(0, gone.signal)
  data.onLoss(() => gone.abort(new Fault('UNAVAILABLE', 'the client has gone')))
  const port = portOf(data) ?? 0
  try {
    gone.signal.throwIfAborted()
    const target = await options.connect(port, gone.signal)
    await forward(data, target, gone.signal)
    data.end()
    error.end()
  } catch (reason) {
    if (gone.signal.aborted) {
      error.end()
      return
    }
    await say(error, `error forwarding port ${port} to pod ${options.target}`, reason)
    data.reset()
  }
}

async function giveUp(pair: Pair, options: SpdyForwardOptions): Promise<void> {
  const { data, error } = pair
  const seconds = options.creationTimeoutMs / 1000
  const reason = new Fault('DEADLINE_EXCEEDED', `its second stream did not come in ${seconds} s`)
  if (error) await say(error, 'error forwarding a connection', reason)
  data?.reset()
}

async function say(stream: SpdyStream, what: string, reason: unknown): Promise<void> {
  try {
    await stream.write(Buffer.from(errorText(what, reason)))
    stream.end()
  } catch {
    // The client has left: nobody listens.
  }
}
