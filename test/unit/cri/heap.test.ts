import { getHeapStatistics } from 'node:v8'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { keepHeapSmall } from '../../../src/cri/heap.ts'

/** Together some 19 MB. */
const OBJECTS = 100_000
/** That of an hour of a daemon: each object lives for some time, so that it is old when it ends. */
const LIVES = 50
/** Without the bound it is 110 MB. */
const MOST_BYTES = 80e6

test('the heap of a daemon grows by half of what it needs, not by three times that', () => {
  keepHeapSmall()
  const objects = new Array<number[]>(OBJECTS)
  let most = 0
  for (let i = 0; i < OBJECTS * LIVES; i++) {
    objects[i % OBJECTS] = [i, i, i, i, i, i]
    if (i % 10_000 === 0) most = Math.max(most, getHeapStatistics().used_heap_size)
  }
  assert.ok(most < MOST_BYTES, `${Math.round(most / 1e6)} MB`)
})

test.run()
