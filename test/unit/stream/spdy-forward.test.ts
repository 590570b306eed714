import type { Socket } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { INPUT_BYTES_MAX, STREAMS_MAX } from '../../../src/stream/limits.ts'
import { eventually } from '../../lib/eventually.ts'
import { type ClientStream, connectSpdy, type SpdyClient } from '../../lib/spdy-client.ts'
import { connects, echo, withPorts, withServer } from '../../lib/stream-server.ts'

const FORWARD = ['portforward.k8s.io']
const FORWARD_REQUEST = { kind: 'portforward', target: 'pod', ports: [] } as const

const PIECE = Buffer.alloc(32 * 1024, 'x')

const ended = (stream: ClientStream) => eventually(`stream ${stream.id} ends`, () => stream.isEnded)

interface Forwarded {
  readonly data: ClientStream
  readonly error: ClientStream
}

async function openForward(
  client: SpdyClient,
  port: number,
  requestid: string,
): Promise<Forwarded> {
  const named = requestid === '' ? {} : { requestid }
  const error = await client.open({ streamtype: 'error', port: `${port}`, ...named })
  client.end(error)
  return { error, data: await client.open({ streamtype: 'data', port: `${port}`, ...named }) }
}

test('several ports and connections at once, each with its own end', async () => {
  const shout = (socket: Socket): void => {
    socket.on('data', (data) => socket.write(data.toString().toUpperCase()))
    socket.on('end', () => socket.end('!'))
  }
  await withPorts([echo, shout], async (one = 0, two = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const open = await Promise.all([
        openForward(client, one, '0'),
        openForward(client, two, '1'),
        openForward(client, one, '2'),
        openForward(client, two, '3'),
      ])
      for (const [i, { data }] of open.entries()) client.write(data, `hello ${i}`)
      await eventually('all answers', () =>
        open.every(({ data }, i) => client.text(data).toLowerCase() === `hello ${i}`),
      )
      for (const { data } of open) client.end(data)
      for (const { data, error } of open) {
        await ended(data)
        await ended(error)
      }
      assert.equal(
        open.map(({ data, error }) => client.text(data) + client.text(error)),
        ['hello 0', 'HELLO 1!', 'hello 2', 'HELLO 3!'],
      )
      client.socket.destroy()
    })
  })
})

test('a port where nobody listens fails its own connection only', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const bad = await openForward(client, 1, 'a')
      await ended(bad.error)
      assert.match(client.text(bad.error), /error forwarding port 1 to pod pod: .*ECONNREFUSED/)
      await eventually('its data is reset', () => bad.data.isReset)
      const good = await openForward(client, port, 'b')
      client.write(good.data, 'fine', true)
      await ended(good.data)
      assert.is(client.text(good.data), 'fine')
      client.socket.destroy()
    })
  })
})

test('clients without request ids are served by their numbers', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      for (const word of ['one', 'two']) {
        const { data } = await openForward(client, port, '')
        client.write(data, word, true)
        await ended(data)
        assert.is(client.text(data), word)
      }
      client.socket.destroy()
    })
  })
})

test('streams with no port, another type or a second time are refused', async () => {
  await withServer(connects, async (server) => {
    const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
    for (const headers of [
      { streamtype: 'data' },
      { streamtype: 'data', port: '0' },
      { streamtype: 'data', port: '65536' },
      { streamtype: 'data', port: '8o' },
      { streamtype: 'stdin', port: '80' },
      { port: '80' },
    ]) {
      const stream = await client.open(headers as Record<string, string>)
      assert.ok(stream.isReset, JSON.stringify(headers))
    }
    await client.open({ streamtype: 'error', port: '80', requestid: 'x' })
    const second = await client.open({ streamtype: 'error', port: '80', requestid: 'x' })
    assert.ok(second.isReset)
    client.socket.destroy()
  })
})

test('a stream whose other does not come is told so', async () => {
  await withServer(
    connects,
    async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const error = await client.open({ streamtype: 'error', port: '80', requestid: 'x' })
      await ended(error)
      assert.match(client.text(error), /second stream did not come/)
      const data = await client.open({ streamtype: 'data', port: '80', requestid: 'y' })
      await eventually('it is reset', () => data.isReset)
      client.socket.destroy()
    },
    { creationTimeoutMs: 100 },
  )
})

test('a client that resets its stream, or goes, has its connections closed', async () => {
  let connected = 0
  const silent = (socket: Socket): void => {
    connected++
    socket.resume()
    socket.on('end', () => socket.end())
  }
  await withPorts([silent], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const { data, error } = await openForward(client, port, 'a')
      await openForward(client, port, 'b')
      await eventually('both are connected', () => connected === 2)
      client.reset(data)
      await ended(error)
      client.socket.destroy()
    })
  })
})

test('a port that closes ends the stream, though the client would go on', async () => {
  await withPorts([(socket) => socket.end('bye')], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const { data } = await openForward(client, port, 'a')
      await ended(data)
      assert.is(client.text(data), 'bye')
      client.socket.destroy()
    })
  })
})

test('much goes both ways at once', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      client.keepsData = false
      const open = await Promise.all(['a', 'b', 'c'].map((id) => openForward(client, port, id)))
      const rounds = (8 * INPUT_BYTES_MAX) / PIECE.length
      for (let i = 0; i < rounds; i++) {
        for (const { data } of open) client.write(data, PIECE)
        if (i % 16 === 0) await new Promise(setImmediate)
      }
      for (const { data } of open) client.end(data)
      for (const { data } of open) await ended(data)
      for (const { data } of open) assert.is(data.bytes, rounds * PIECE.length)
      client.socket.destroy()
    })
  })
})

test('thousands of streams on one connection', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      for (let round = 0; round < 4; round++) {
        const open = await Promise.all(
          Array.from({ length: 250 }, async (_, i) => {
            const headers = { port: `${port}`, requestid: `${round} ${i}` }
            const error = await client.openUnanswered({ streamtype: 'error', ...headers })
            const data = await client.openUnanswered({ streamtype: 'data', ...headers })
            return { error, data }
          }),
        )
        for (const { data } of open) client.write(data, `number ${data.id}`, true)
        for (const { data, error } of open) {
          client.end(error)
          await ended(data)
          assert.is(client.text(data), `number ${data.id}`)
        }
      }
      client.socket.destroy()
    })
  })
})

test('more streams than a connection may have are refused, and the others go on', async () => {
  await withPorts([echo], async (port = 0) => {
    await withServer(connects, async (server) => {
      const client = await connectSpdy(server.url(FORWARD_REQUEST), FORWARD)
      const [error, data] = client.openStored(2, (i) => ({
        streamtype: i === 0 ? 'error' : 'data',
        port: `${port}`,
        requestid: 'first',
      }))
      // Their second streams do not come.
      const others = client.openStored(STREAMS_MAX, (i) => ({
        streamtype: 'error',
        port: `${port}`,
        requestid: `${i}`,
      }))
      await eventually('all are answered', () =>
        others.every(({ isReplied, isReset }) => isReplied || isReset),
      )
      assert.equal(
        others.map(({ isReset }, i) => (isReset ? i : -1)).filter((i) => i >= 0),
        [STREAMS_MAX - 2, STREAMS_MAX - 1],
      )
      if (error === undefined || data === undefined) throw new Error('not opened')
      client.write(data, 'still here', true)
      await ended(data)
      assert.is(client.text(data), 'still here')
      client.socket.destroy()
    })
  })
})

test.run()
