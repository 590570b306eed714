import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DETACH_KEYS, DetachFilter, parseDetachKeys } from '../../../src/cli/detach-keys.ts'

const P = 0x10
const Q = 0x11

test('keys are letters and control letters', () => {
  assert.equal(parseDetachKeys(DETACH_KEYS), [P, Q])
  assert.equal(parseDetachKeys('ctrl-x,d'), [24, 100])
  assert.equal(parseDetachKeys('ctrl-\\,ctrl-]'), [28, 29])
  assert.equal(parseDetachKeys(''), [])
  assert.throws(() => parseDetachKeys('ctrl-1'))
  assert.throws(() => parseDetachKeys('a,,b'))
})

/** What passes of the chunks, and in which the sequence was complete (-1: never). */
function feed(keys: number[], ...chunks: number[][]): [pass: number[], at: number] {
  const filter = new DetachFilter(keys)
  const pass: number[] = []
  for (const [i, chunk] of chunks.entries()) {
    const result = filter.feed(Uint8Array.from(chunk))
    pass.push(...result.pass)
    if (result.detached) return [pass, i]
  }
  return [pass, -1]
}

test('the sequence is seen in one chunk and across chunks', () => {
  assert.equal(feed([P, Q], [1, P, Q, 2]), [[1], 0])
  assert.equal(feed([P, Q], [1, P], [Q]), [[1], 1])
})

test('a start that goes on otherwise is passed whole', () => {
  assert.equal(feed([P, Q], [P], [7]), [[P, 7], -1])
  assert.equal(feed([P, Q], [P, P, P, 7]), [[P, P, P, 7], -1])
})

test('a start within a start is found', () => {
  assert.equal(feed([P, Q], [P, P, Q]), [[P], 0])
  assert.equal(feed([1, 1, 2], [1, 1, 1, 2]), [[1], 0])
  assert.equal(feed([1, 2, 1, 3], [1, 2, 1, 2, 1, 3]), [[1, 2], 0])
})

test('without keys all passes', () => {
  assert.equal(feed([], [P, Q]), [[P, Q], -1])
})

test.run()
