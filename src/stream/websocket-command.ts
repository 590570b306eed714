import type { WebSocket } from 'ws'
import type { Channels, Sink } from './command.ts'
import { type Outcome, plainStatus, structuredStatus } from './status.ts'
import type { Stdio } from './types.ts'
import { ChannelSocket } from './websocket.ts'

const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const

interface Features {
  readonly isBase64: boolean
  readonly isStructured: boolean
  readonly closes: boolean
}

const PLAIN: Features = { isBase64: false, isStructured: false, closes: false }

/** '' is a client that names none. */
export const WEBSOCKET_COMMAND_PROTOCOLS: ReadonlyMap<string, Features> = new Map([
  ['', PLAIN],
  ['channel.k8s.io', PLAIN],
  ['base64.channel.k8s.io', { ...PLAIN, isBase64: true }],
  ['v4.channel.k8s.io', { ...PLAIN, isStructured: true }],
  ['v4.base64.channel.k8s.io', { ...PLAIN, isStructured: true, isBase64: true }],
  ['v5.channel.k8s.io', { ...PLAIN, isStructured: true, closes: true }],
])

/** The channels of a command: a client need not open them. */
export function webSocketChannels(
  webSocket: WebSocket,
  protocol: string,
  stdio: Stdio,
  idleTimeoutMs: number,
): { readonly socket: ChannelSocket; readonly channels: Channels } {
  const { isBase64, isStructured, closes } = WEBSOCKET_COMMAND_PROTOCOLS.get(protocol) ?? PLAIN
  const socket = new ChannelSocket(webSocket, {
    idleTimeoutMs,
    isBase64,
    closes,
    readable: [
      ...(stdio.stdin ? [CHANNEL.stdin] : []),
      ...(stdio.terminal ? [CHANNEL.resize] : []),
    ],
  })
  const sink = (channel: number): Sink => ({
    write: (data) => socket.write(channel, data),
    // The protocol has no end of a channel towards the client.
    end: () => {},
  })
  // An empty message tells clients that the connection stands; they wait for it.
  const first = stdio.stdout ? CHANNEL.stdout : stdio.stderr ? CHANNEL.stderr : CHANNEL.error
  socket.write(first, Buffer.alloc(0)).catch(() => {})
  const channels: Channels = {
    stdin: stdio.stdin ? socket.input(CHANNEL.stdin) : undefined,
    resize: stdio.terminal ? socket.input(CHANNEL.resize) : undefined,
    stdout: stdio.stdout ? sink(CHANNEL.stdout) : undefined,
    stderr: stdio.stderr ? sink(CHANNEL.stderr) : undefined,
    gone: socket.gone,
    refuseInput: () => {
      if (stdio.stdin) socket.input(CHANNEL.stdin).discard()
    },
    finish: async (outcome: Outcome) => {
      const status = isStructured ? structuredStatus(outcome) : plainStatus(outcome)
      try {
        if (status.length > 0) await socket.write(CHANNEL.error, status)
      } catch {
        // The client has left before the end: nobody listens.
      }
      socket.end()
    },
  }
  return { socket, channels }
}
