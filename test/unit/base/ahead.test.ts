import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Ahead } from '../../../src/base/ahead.ts'

/** Each is another one; `made` has their kinds in order. */
function counting(): { ahead: Ahead<{ kind: string }>; made: string[] } {
  const made: string[] = []
  const ahead = new Ahead(async (kind) => {
    made.push(kind)
    if (kind === 'bad') throw new Error('cannot be made')
    return { kind }
  })
  return { ahead, made }
}

test('one is made ahead for the next, and given once', async () => {
  const { ahead, made } = counting()
  const first = await ahead.take('a')
  ahead.again('a')
  ahead.again('a')
  assert.is(made.length, 1, 'not before what is under way has been done')
  await delay(10)
  assert.equal(made, ['a', 'a'])
  const [second, third] = await Promise.all([ahead.take('a'), ahead.take('a')])
  assert.is(made.length, 3)
  assert.is(new Set([first, second, third]).size, 3)
})

test('one that cannot be made is told to who wants it', async () => {
  const { ahead } = counting()
  ahead.again('bad')
  await delay(10)
  try {
    await ahead.take('bad')
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /cannot be made/)
  }
})

test('those wanted last are kept, and no more', async () => {
  const { ahead, made } = counting()
  const kinds = Array.from({ length: 12 }, (_, i) => `kind ${i}`)
  for (const kind of kinds) {
    ahead.again(kind)
    await delay(2)
  }
  made.length = 0
  for (const kind of kinds) await ahead.take(kind)
  assert.equal(made, kinds.slice(0, 4))
})

test.run()
