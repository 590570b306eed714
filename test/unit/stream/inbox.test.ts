import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Budget, Inbox } from '../../../src/stream/inbox.ts'
import { FRAME_COST, INPUT_BYTES_MAX } from '../../../src/stream/limits.ts'

async function read(inbox: Inbox): Promise<string[]> {
  const out: string[] = []
  for await (const data of inbox) out.push(data.toString())
  return out
}

test('what came is read in order, then the end', async () => {
  const inbox = new Inbox(new Budget(() => {}))
  inbox.push(Buffer.from('a'))
  const reading = read(inbox)
  inbox.push(Buffer.alloc(0))
  inbox.push(Buffer.from('b'))
  inbox.end()
  inbox.push(Buffer.from('after the end'))
  assert.equal(await reading, ['a', 'b'])
})

test('a client that goes is an error behind what came, and none behind its end', async () => {
  const inbox = new Inbox(new Budget(() => {}))
  inbox.push(Buffer.from('a'))
  inbox.fail(new Error('gone'))
  const iterator = inbox[Symbol.asyncIterator]()
  assert.is((await iterator.next()).value.toString(), 'a')
  assert.is(await iterator.next().catch((error) => error.message), 'gone')
  const ended = new Inbox(new Budget(() => {}))
  ended.end()
  ended.fail(new Error('gone'))
  assert.equal(await read(ended), [])
})

test('a connection is held at the limit of all its streams, and no longer than that', async () => {
  const holds: boolean[] = []
  const budget = new Budget((held) => holds.push(held))
  const [one, two] = [new Inbox(budget), new Inbox(budget)]
  const half = Buffer.alloc(INPUT_BYTES_MAX / 2)
  one.push(half)
  assert.equal(holds, [])
  two.push(half)
  two.push(half)
  assert.equal(holds, [true])
  two.discard()
  assert.equal(holds, [true, false])
  two.push(half)
  two.push(half)
  assert.is(budget.used, half.length + FRAME_COST)
  one.end()
  await read(one)
  assert.is(budget.used, 0)
})

test('a million tiny frames do not slip under the limit', () => {
  const holds: boolean[] = []
  const inbox = new Inbox(new Budget((held) => holds.push(held)))
  for (let i = 0; i < INPUT_BYTES_MAX / FRAME_COST; i++) inbox.push(Buffer.from('x'))
  assert.equal(holds, [true])
})

test('a reader that stops early gives back what is left', async () => {
  const budget = new Budget(() => {})
  const inbox = new Inbox(budget)
  inbox.push(Buffer.from('a'))
  inbox.push(Buffer.from('b'))
  for await (const data of inbox) if (data.length > 0) break
  assert.is(budget.used, 0)
})

test.run()
