import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Gathered } from '../../../src/image/gather.ts'
import { Random } from '../../lib/random.ts'

const MIB = 1024 * 1024

test('pieces come out in order, larger, and the last one at once', async () => {
  const random = new Random(3)
  for (const bytes of [1, 700, 512 * 1024, 512 * 1024 + 1, 3 * MIB + 5]) {
    const whole = Buffer.from(Array.from({ length: bytes }, (_, i) => i % 251))
    const got: Buffer[] = []
    const gathered = new Gathered(bytes, async (chunk) => {
      await null
      got.push(Buffer.from(chunk))
    })
    let at = 0
    while (at < bytes) {
      const piece = whole.subarray(at, at + random.between(1, bytes > MIB ? 90_000 : 65_536))
      await gathered.add(piece)
      at += piece.length
      const handedOn = got.reduce((sum, chunk) => sum + chunk.length, 0)
      assert.is(handedOn + gathered.held, at)
    }
    assert.is(gathered.held, 0)
    assert.ok(Buffer.concat(got).equals(whole))
    assert.ok(got.length <= Math.ceil(bytes / (512 * 1024)) + 1, `${got.length} pieces`)
  }
})

test('what is held comes at a flush, and the rest after it', async () => {
  const got: string[] = []
  const gathered = new Gathered(1000, async (chunk) => {
    got.push(Buffer.from(chunk).toString())
  })
  await gathered.add(Buffer.from('abc'))
  assert.equal(got, [])
  await gathered.flush()
  await gathered.flush()
  assert.equal(got, ['abc'])
  await gathered.add(Buffer.alloc(997, 'x'))
  assert.is(got[1]?.length, 997)
})

test('bytes beyond those promised are handed on too: who takes them refuses', async () => {
  const got: number[] = []
  const gathered = new Gathered(4, async (chunk) => {
    got.push(chunk.length)
  })
  await gathered.add(Buffer.alloc(6))
  await gathered.add(Buffer.alloc(2))
  assert.equal(got, [6, 2])
})

test('a failure of who takes them is told, and what it has got does not come again', async () => {
  let calls = 0
  const gathered = new Gathered(8, async () => {
    calls++
    throw new Error('the disk is full')
  })
  await gathered.add(Buffer.alloc(4))
  let message = ''
  await gathered.add(Buffer.alloc(4)).catch((error: Error) => {
    message = error.message
  })
  assert.is(message, 'the disk is full')
  await gathered.flush()
  assert.is(calls, 1)
})

test.run()
