/** What becomes of the steps of a plugin's call, done in the process itself, when its time is over. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Limits } from '../../../src/network/limits.ts'
import type { PluginCall } from '../../../src/network/plugin.ts'

const call: PluginCall = { command: 'ADD', type: 'bridge', directories: [], config: {} }
const failureOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no failure',
    (error: Error) => error.message,
  )

test('a step that outlasts its time is told so, and waited for before the call fails', async () => {
  const gone = new AbortController()
  using limits = new Limits({ ...call, signal: gone.signal })
  const order: string[] = []
  const step = limits.step(async () => {
    await new Promise((resolve) => limits.signal.addEventListener('abort', resolve))
    // As a rule that is just made, or a link.
    await new Promise((resolve) => setImmediate(resolve))
    order.push('the step')
  })
  assert.is(await limits.step(async () => 7), 7)
  gone.abort()
  assert.is(await failureOf(step), 'CNI plugin bridge (ADD) was cancelled')
  assert.equal(order, [])
  await limits.ended()
  order.push('the call')
  assert.equal(order, ['the step', 'the call'])
  assert.is(
    await failureOf(limits.step(async () => order.push('another'))),
    'CNI plugin bridge (ADD) was cancelled',
  )
  assert.is(order.length, 2)
})

test('one that hangs is not waited for without end', async () => {
  using limits = new Limits({ ...call, timeoutMs: 1 })
  assert.is(
    await failureOf(limits.step(() => new Promise(() => {}))),
    'CNI plugin bridge (ADD) did not end within 1 ms',
  )
  assert.ok(limits.signal.aborted)
  await limits.ended()
})

test.run()
