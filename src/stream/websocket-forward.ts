import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import { forward } from './forward.ts'
import { errorText } from './status.ts'
import { ChannelSocket } from './websocket.ts'

/** SPDY inside of a WebSocket: what kubectl speaks, to kubelet. */
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io'

/** The older way: one connection for each port of the request. By subprotocol, whether it is base64. */
export const WEBSOCKET_FORWARD_PROTOCOLS: ReadonlyMap<string, boolean> = new Map([
  ['', false],
  ['v4.channel.k8s.io', false],
  ['v4.base64.channel.k8s.io', true],
])

export interface WebSocketForwardOptions {
  readonly target: string
  readonly ports: readonly number[]
  readonly idleTimeoutMs: number
  readonly connect: (port: number, signal: AbortSignal) => Promise<Duplex>
}

/** Of each port two channels, for its bytes and its error; both begin with the port's number. */
export function acceptWebSocketForward(
  webSocket: WebSocket,
  protocol: string,
  options: WebSocketForwardOptions,
): { readonly socket: ChannelSocket; readonly done: Promise<void> } {
  const socket = new ChannelSocket(webSocket, {
    idleTimeoutMs: options.idleTimeoutMs,
    isBase64: WEBSOCKET_FORWARD_PROTOCOLS.get(protocol) ?? false,
    closes: false,
    readable: options.ports.map((_, i) => 2 * i),
  })
  const forwards = options.ports.map((port, i) => forwardPort(socket, port, 2 * i, options))
  return { socket, done: Promise.all(forwards).then(() => socket.end()) }
}

async function forwardPort(
  socket: ChannelSocket,
  port: number,
  channel: number,
  options: WebSocketForwardOptions,
): Promise<void> {
  const number = Buffer.alloc(2)
  number.writeUInt16LE(port)
  try {
    await socket.write(channel, number)
    await socket.write(channel + 1, number)
  } catch {
    return
  }
  const input = socket.input(channel)
  try {
    const target = await options.connect(port, socket.gone)
    const write = (data: Uint8Array): Promise<void> => socket.write(channel, data)
    // A client has no end of its own here: with that of the port all is over.
    await forward({ input, write, end: () => input.discard() }, target, socket.gone)
  } catch (error) {
    const text = errorText(`error forwarding port ${port} to pod ${options.target}`, error)
    await socket.write(channel + 1, Buffer.from(text)).catch(() => {})
  } finally {
    // What still comes must not hold up the other ports.
    input.discard()
  }
}
