import { connect, createServer, type Socket } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ForwardChannel, forward } from '../../../src/stream/forward.ts'
import { Budget, Inbox } from '../../../src/stream/inbox.ts'
import { eventually } from '../../lib/eventually.ts'

interface Ends {
  readonly channel: ForwardChannel
  readonly input: Inbox
  readonly said: string[]
  /** Our connection to the port, and the port's end of it. */
  readonly target: Socket
  readonly port: Socket
}

async function withEnds(act: (ends: Ends) => Promise<void>, allowHalfOpen = true): Promise<void> {
  let accepted: Socket | undefined
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted = socket
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const target = connect({ host: '127.0.0.1', port, allowHalfOpen })
  const input = new Inbox(new Budget(() => {}))
  const said: string[] = []
  const channel: ForwardChannel = {
    input,
    write: async (data) => {
      said.push(Buffer.from(data).toString())
    },
    end: () => said.push('END'),
  }
  try {
    const end = await eventually('the port is connected', () => accepted)
    await act({ channel, input, said, target, port: end })
    assert.ok(target.destroyed)
  } finally {
    accepted?.destroy()
    target.destroy()
    server.close()
  }
}

const never = new AbortController().signal

test('each half ends for itself', async () => {
  await withEnds(async ({ channel, input, said, target, port }) => {
    const done = forward(channel, target, never)
    let heard = ''
    port.on('data', (data) => {
      heard += data
    })
    input.push(Buffer.from('question'))
    input.end()
    await new Promise((resolve) => port.on('end', resolve))
    assert.is(heard, 'question')
    assert.equal(said, [])
    port.end('answer')
    await done
    assert.equal(said, ['answer', 'END'])
  })
})

test('a port that says its last word first still hears the rest', async () => {
  await withEnds(async ({ channel, input, said, target, port }) => {
    const done = forward(channel, target, never)
    let heard = ''
    port.on('data', (data) => {
      heard += data
    })
    port.end('greeting')
    await eventually('the end', () => said.includes('END'))
    input.push(Buffer.from('late'))
    input.end()
    await done
    await eventually('it is heard', () => heard === 'late')
  })
})

test('a port that has closed is not waited for, though the client sends no end', async () => {
  await withEnds(async ({ channel, input, said, target, port }) => {
    const done = forward(channel, target, never)
    port.end('bye')
    await eventually('the end', () => said.includes('END'))
    port.destroy()
    // The first write is answered by a reset, which the next one runs into.
    const asking = setInterval(() => input.push(Buffer.from('anybody?')), 10)
    target.on('close', () => clearInterval(asking))
    await done
  })
})

test('a connection that closes as a whole is not waited for either', async () => {
  await withEnds(async ({ channel, said, target, port }) => {
    const done = forward(channel, target, never)
    port.end('bye')
    await done
    assert.equal(said, ['bye', 'END'])
  }, false)
})

test('a client that goes has the connection closed, also after its half was', async () => {
  for (const isHalfClosed of [false, true]) {
    await withEnds(async ({ channel, input, target, port }) => {
      const gone = new AbortController()
      const done = forward(channel, target, gone.signal)
      if (isHalfClosed) {
        input.end()
        await new Promise((resolve) => port.resume().on('end', resolve))
      }
      gone.abort()
      if (!isHalfClosed) input.fail(new Error('gone'))
      await done
    })
  }
})

test('a client that is gone already has its connection closed', async () => {
  await withEnds(async ({ channel, input, target }) => {
    input.fail(new Error('gone'))
    await forward(channel, target, AbortSignal.abort())
  })
})

test('a connection that breaks before its answer is an error', async () => {
  await withEnds(async ({ channel, target, port }) => {
    const done = forward(channel, target, never)
    port.resetAndDestroy()
    assert.is(await done.catch((error) => error.code), 'ECONNRESET')
  })
})

test.run()
