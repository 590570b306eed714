import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Channel } from '../../../src/image/channel.ts'

test('a push waits for the consumer to ask for more', async () => {
  const channel = new Channel()
  const taken: number[] = []
  const consumer = (async () => {
    for await (const chunk of channel) taken.push(chunk.length)
  })()
  await channel.push(Buffer.alloc(1))
  await channel.push(Buffer.alloc(2))
  channel.end()
  await consumer
  assert.equal(taken, [1, 2])
})

test('a producer goes on when the consumer leaves with a chunk in its hands, and never comes back for another', async () => {
  const channel = new Channel()
  const iterator = channel[Symbol.asyncIterator]()
  const pushed = channel.push(Buffer.alloc(1))
  await iterator.next()
  channel.leave()
  await pushed
  await channel.push(Buffer.alloc(2))
})

test('a producer that waits goes on when the consumer leaves', async () => {
  const channel = new Channel()
  const pushed = channel.push(Buffer.alloc(1))
  channel.leave()
  await pushed
})

test.run()
