import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { Fault } from '../../../src/base/fault.ts'
import type { Handlers } from '../../../src/stream/index.ts'
import { eventually } from '../../lib/eventually.ts'
import { SpdyClient, upgrade } from '../../lib/spdy-client.ts'
import {
  connects,
  echo,
  exec,
  PIPES,
  TERMINAL,
  withPorts,
  withServer,
} from '../../lib/stream-server.ts'
import { HandSession, processSession } from '../../lib/stream-session.ts'
import { openTunnel } from '../../lib/websocket-tunnel.ts'

const runs: Partial<Handlers> = { exec: async ({ command }) => processSession(command) }

interface Client {
  readonly socket: WebSocket
  /** What came, by channel. */
  readonly channels: Map<number, string>
  /** The channels, in the order that something came on them. */
  readonly order: number[]
  text(channel: number): string
  closed: number | undefined
}

async function open(url: string, protocols: readonly string[]): Promise<Client> {
  const socket = new WebSocket(url.replace('http', 'ws'), [...protocols])
  const isBase64 = protocols.some((name) => name.includes('base64'))
  const channels = new Map<number, string>()
  const client: Client = {
    socket,
    channels,
    order: [],
    text: (channel) => channels.get(channel) ?? '',
    closed: undefined,
  }
  socket.on('message', (message: Buffer, isBinary) => {
    assert.is(isBinary, !isBase64)
    const channel = (message[0] ?? 0) - (isBase64 ? 48 : 0)
    const content = message.subarray(1)
    const text = isBase64 ? Buffer.from(content.toString(), 'base64') : content
    channels.set(channel, client.text(channel) + text.toString('latin1'))
    client.order.push(channel)
  })
  socket.on('close', (code) => {
    client.closed = code
  })
  await new Promise((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('error', reject)
  })
  return client
}

const send = (client: Client, channel: number, text: string): void =>
  client.socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]))

const closed = (client: Client) => eventually('it is closed', () => client.closed !== undefined)

test('version 5 closes stdin with a signal of its own', async () => {
  await withServer(runs, async (server) => {
    const client = await open(server.url(exec(['cat'])), ['v5.channel.k8s.io', 'v4.channel.k8s.io'])
    assert.is(client.socket.protocol, 'v5.channel.k8s.io')
    send(client, 0, 'hello')
    await eventually('the echo', () => client.text(1) === 'hello')
    client.socket.send(Buffer.from([255, 0]))
    await closed(client)
    assert.is(client.closed, 1000)
    assert.equal(JSON.parse(client.text(3)), { metadata: {}, status: 'Success' })
    assert.is(client.order.at(-1), 3)
  })
})

test('an empty message on the lowest channel says that the connection stands', async () => {
  await withServer({ exec: async () => new HandSession() }, async (server) => {
    for (const [stdio, channel] of [
      [PIPES, 1],
      [{ ...PIPES, stdout: false }, 2],
      [{ ...PIPES, stdout: false, stderr: false }, 3],
    ] as const) {
      const client = await open(server.url(exec(['x'], stdio)), ['v4.channel.k8s.io'])
      await eventually('the message', () => client.order.length > 0)
      assert.equal([client.order[0], client.text(channel)], [channel, ''])
      client.socket.terminate()
    }
  })
})

test('the exit code is told as the version has it', async () => {
  await withServer(runs, async (server) => {
    for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io', 'v5.channel.k8s.io']) {
      const client = await open(server.url(exec(['sh', '-c', 'exit 9'])), [protocol])
      await closed(client)
      assert.equal(JSON.parse(client.text(3)).details.causes, [
        { reason: 'ExitCode', message: '9' },
      ])
    }
    for (const protocols of [['channel.k8s.io'], ['base64.channel.k8s.io'], []]) {
      const client = await open(server.url(exec(['sh', '-c', 'exit 9'])), protocols)
      await closed(client)
      assert.is(client.text(3), 'command terminated with non-zero exit code: exit status 9')
    }
    const success = await open(server.url(exec(['true'])), [])
    await closed(success)
    assert.is(success.text(3), '')
  })
})

test('base64 goes both ways, and what is none ends the connection', async () => {
  await withServer(runs, async (server) => {
    const client = await open(server.url(exec(['cat'])), ['base64.channel.k8s.io'])
    client.socket.send(`0${Buffer.from('a\0b\xff', 'latin1').toString('base64')}`)
    await eventually('the echo', () => client.text(1) === 'a\0b\xff')
    client.socket.send('0%%%%')
    await closed(client)
    assert.is(client.closed, 1007)
  })
})

test('a terminal follows the sizes of its client', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const client = await open(server.url(exec(['sh'], TERMINAL)), ['v4.channel.k8s.io'])
    send(client, 4, '{"Width":80,"Height":24}')
    await eventually('the size', () => client.text(1) === '[80x24]')
    session.finish(0)
    await closed(client)
  })
})

test('what comes on other channels is dropped', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const client = await open(server.url(exec(['x'])), ['v5.channel.k8s.io'])
    for (const channel of [1, 2, 3, 4, 5, 200]) send(client, channel, 'x'.repeat(2_000_000))
    client.socket.send(Buffer.alloc(0))
    client.socket.send(Buffer.from([255, 9]))
    send(client, 0, 'mine')
    await eventually('stdin', () => session.inputBytes === 4)
    client.socket.send(Buffer.from([255, 0, 0]))
    await closed(client)
    assert.is(client.closed, 1002)
    assert.ok(session.isClosed)
    assert.not(session.isInputClosed)
  })
})

test('a message beyond the limit ends the connection', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const client = await open(server.url(exec(['x'])), ['v4.channel.k8s.io'])
    send(client, 0, 'x'.repeat(5_000_000))
    await closed(client)
    assert.is(session.inputBytes, 0)
    assert.ok(session.isClosed)
  })
})

test('a client that goes has its session closed', async () => {
  const session = new HandSession()
  await withServer({ exec: async () => session }, async (server) => {
    const client = await open(server.url(exec(['x'])), ['v4.channel.k8s.io'])
    session.say('up')
    await eventually('the output', () => client.text(1) === 'up')
    client.socket.terminate()
    await eventually('the session is closed', () => session.isClosed)
    assert.not(session.isInputClosed)
  })
})

test('pings are answered, and count as something that happens', async () => {
  const session = new HandSession()
  await withServer(
    { exec: async () => session },
    async (server) => {
      const client = await open(server.url(exec(['x'])), ['v4.channel.k8s.io'])
      let pongs = 0
      client.socket.on('pong', () => pongs++)
      for (let i = 0; i < 10; i++) {
        client.socket.ping()
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      assert.is(pongs, 10)
      assert.is(client.closed, undefined)
      await closed(client)
      assert.ok(session.isClosed)
    },
    { idleTimeoutMs: 300 },
  )
})

test('a slow reader holds back the process, and a slow process its client', async () => {
  const piece = Buffer.alloc(64 * 1024, 'x')
  function* pieces(): Generator<{ stream: 'stdout'; data: Buffer }> {
    for (let i = 0; i < 1024; i++) yield { stream: 'stdout', data: piece }
  }
  const session = new HandSession(pieces())
  let release = (): void => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  session.beforeWrite = () => released
  await withServer({ exec: async () => session }, async (server) => {
    const client = await open(server.url(exec(['big'])), ['v4.channel.k8s.io'])
    client.socket.pause()
    for (let i = 0; i < 512; i++) send(client, 0, piece.toString())
    const stands = async (what: string, figure: () => number): Promise<void> => {
      let before = -1
      await eventually(what, async () => {
        const now = figure()
        const still = now === before && now > 0
        before = now
        await new Promise((resolve) => setTimeout(resolve, 100))
        return still
      })
    }
    await stands('the process stands still', () => session.produced)
    assert.ok(session.produced < 32 * 1024 * 1024, `${session.produced}`)
    await stands('the client cannot send', () => client.socket.bufferedAmount)
    assert.ok(client.socket.bufferedAmount > 16 * 1024 * 1024, `${client.socket.bufferedAmount}`)
    client.socket.resume()
    release()
    await closed(client)
    assert.is(client.text(1).length, 64 * 1024 * 1024)
    assert.is(JSON.parse(client.text(3)).status, 'Success')
  })
})

test('subprotocols and handshakes that are not ours are refused', async () => {
  await withServer(runs, async (server) => {
    const refused = await open(server.url(exec(['x'])), ['v9.channel.k8s.io']).catch(
      (e) => e.message,
    )
    assert.match(refused, '403')
    const portless = { kind: 'portforward', target: 'pod', ports: [] } as const
    const channels = await open(server.url(portless), ['v4.channel.k8s.io']).catch((e) => e.message)
    assert.match(channels, '400')
    const unkeyed = await upgrade(server.url(exec(['x'])), [], {
      upgrade: 'websocket',
      method: 'GET',
    })
    assert.is('status' in unkeyed && unkeyed.status, 400)
  })
})

test('ports are forwarded over channels in pairs', async () => {
  await withPorts([echo, (socket) => socket.end('bye')], async (one = 0, two = 0) => {
    await withServer(connects, async (server) => {
      for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io']) {
        const request = { kind: 'portforward', target: 'pod', ports: [one, two, 1] } as const
        const client = await open(server.url(request), [protocol])
        const number = (port: number): string => String.fromCharCode(port & 255, port >> 8)
        if (protocol.includes('base64')) client.socket.send(`0${btoa('hello')}`)
        else send(client, 0, 'hello')
        await eventually(
          'all answers',
          () => client.text(0).length === 7 && client.text(5).length > 2,
        )
        assert.equal(
          [0, 1, 2, 3, 4].map((channel) => client.text(channel)),
          [`${number(one)}hello`, number(one), `${number(two)}bye`, number(two), number(1)],
        )
        assert.match(client.text(5), 'error forwarding port 1 to pod pod')
        client.socket.close()
        await closed(client)
      }
    })
  })
})

test('a connection whose ports have all ended is closed', async () => {
  await withPorts([(socket) => socket.end('bye')], async (port = 0) => {
    await withServer(connects, async (server) => {
      const request = { kind: 'portforward', target: 'pod', ports: [port, port] } as const
      const client = await open(server.url(request), [])
      await closed(client)
      assert.is(client.closed, 1000)
    })
  })
})

test('the tunnel carries SPDY with several connections at once', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const url = server.url({ kind: 'portforward', target: 'pod', ports: [] })
      const { stream, protocol } = await openTunnel(url, 'SPDY/3.1+portforward.k8s.io')
      assert.is(protocol, 'SPDY/3.1+portforward.k8s.io')
      const client = new SpdyClient(stream, Buffer.alloc(0))
      const big = Buffer.alloc(300_000, 'x')
      const open = await Promise.all(
        [0, 1, 2].map(async (id) => {
          const headers = { port: `${port}`, requestid: `${id}` }
          const error = await client.open({ streamtype: 'error', ...headers })
          return { error, data: await client.open({ streamtype: 'data', ...headers }) }
        }),
      )
      for (const { data } of open) client.write(data, big, true)
      for (const { data, error } of open) {
        await eventually('both end', () => data.isEnded && error.isEnded)
        assert.is(data.bytes, big.length)
      }
      stream.destroy()
    })
  })
})

test('a handler that fails is told on the error channel', async () => {
  const handlers: Partial<Handlers> = {
    exec: async () => {
      throw new Fault('NOT_FOUND', 'cannot find container box')
    },
  }
  await withServer(handlers, async (server) => {
    const client = await open(server.url(exec(['x'])), ['v4.channel.k8s.io'])
    await closed(client)
    const { reason, message } = JSON.parse(client.text(3))
    assert.is(reason, 'InternalError')
    assert.match(message, 'cannot find container box')
  })
})

test.run()
