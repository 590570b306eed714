import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { Retry, retrying } from '../../../src/image/http.ts'

const gone = new Fault('UNAVAILABLE', 'nobody there')

/** How many attempts were made that took `ms` each. */
async function attempts(ms: number, patienceMs: number, afterMs?: number): Promise<number> {
  let count = 0
  const attempt = async () => {
    count++
    await delay(ms)
    return new Retry(gone, afterMs)
  }
  await retrying<never>(attempt, { signal: undefined, patienceMs }).then(
    assert.unreachable,
    (error) => assert.is(error, gone),
  )
  return count
}

test('quick failures are tried again some times, slow ones only while there is patience', async () => {
  assert.is(await attempts(60, 50), 1)
  assert.ok((await attempts(0, 60_000, 1)) > 2)
})

test('where the server named the time to wait, it is waited', async () => {
  assert.ok((await attempts(60, 50, 1)) > 2)
})

test.run()
