import type { Duplex } from 'node:stream'
import type { Channels } from './command.ts'
import { SpdyConnection, type SpdyStream } from './spdy-connection.ts'
import { type Outcome, plainStatus, structuredStatus } from './status.ts'
import type { Stdio } from './types.ts'

/** By the client's choice, of these. Version 1 is that of clients which name none; the bugs it is known for are not repeated. */
export const COMMAND_PROTOCOLS = [
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const
export type CommandProtocol = (typeof COMMAND_PROTOCOLS)[number]

export interface SpdyCommandOptions {
  readonly protocol: CommandProtocol
  readonly stdio: Stdio
  readonly idleTimeoutMs: number
  readonly creationTimeoutMs: number
}

export interface SpdyCommand {
  readonly connection: SpdyConnection
  /** When the client has opened all streams; undefined when it did not in time, or has left. */
  readonly channels: Promise<Channels | undefined>
}

/** The streams that the client must open, by the header `streamType`. */
function expectedStreams({ protocol, stdio }: SpdyCommandOptions): Set<string> {
  const names = new Set(['error'])
  if (stdio.stdin) names.add('stdin')
  if (stdio.stdout) names.add('stdout')
  if (stdio.stderr) names.add('stderr')
  const resizes = protocol === 'v4.channel.k8s.io' || protocol === 'v3.channel.k8s.io'
  if (stdio.terminal && resizes) names.add('resize')
  return names
}

export function acceptSpdyCommand(socket: Duplex, options: SpdyCommandOptions): SpdyCommand {
  const expected = expectedStreams(options)
  const streams = new Map<string, SpdyStream>()
  let complete: (() => void) | undefined
  const connection = new SpdyConnection(socket, {
    idleTimeoutMs: options.idleTimeoutMs,
    accept: (stream) => {
      const name = stream.headers.get('streamtype') ?? ''
      if (streams.has(name)) return false
      // A client may open more than it was promised; nothing is read of that and nothing written to it.
      if (!expected.has(name)) {
        stream.input.discard()
        return true
      }
      streams.set(name, stream)
      if (streams.size === expected.size) complete?.()
      return true
    },
  })
  const channels = new Promise<Channels | undefined>((resolve) => {
    const settle = (value: Channels | undefined): void => {
      clearTimeout(timer)
      connection.gone.removeEventListener('abort', leave)
      resolve(value)
    }
    const leave = (): void => settle(undefined)
    const timer = setTimeout(() => {
      settle(undefined)
      connection.end()
    }, options.creationTimeoutMs)
    connection.gone.addEventListener('abort', leave)
    complete = () => settle(channelsOf(connection, streams, options.protocol))
  })
  return { connection, channels }
}

function channelsOf(
  connection: SpdyConnection,
  streams: ReadonlyMap<string, SpdyStream>,
  protocol: CommandProtocol,
): Channels {
  const stdin = streams.get('stdin')
  const error = streams.get('error')
  return {
    stdin: stdin?.input,
    resize: streams.get('resize')?.input,
    stdout: streams.get('stdout'),
    stderr: streams.get('stderr'),
    gone: connection.gone,
    refuseInput: () => {
      stdin?.input.discard()
      stdin?.end()
    },
    finish: async (outcome: Outcome) => {
      const isStructured = protocol === 'v4.channel.k8s.io'
      const status = isStructured ? structuredStatus(outcome) : plainStatus(outcome)
      try {
        await error?.write(status)
        // Clients wait for the end of each.
        for (const stream of streams.values()) stream.end()
      } catch {
        // The client has left before the end: nobody listens.
      }
      connection.end()
    },
  }
}
