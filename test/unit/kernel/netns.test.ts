import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseCounters } from '../../../src/kernel/netns.ts'

const HEAD = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`

test('counters are told for each interface, also such that no double holds', () => {
  const text = `${HEAD}    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0.7:18446744073709551615       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n`
  assert.equal(parseCounters(text), [
    {
      name: 'lo',
      received: { bytes: 1n, packets: 2n, errors: 3n, dropped: 4n },
      sent: { bytes: 9n, packets: 10n, errors: 11n, dropped: 12n },
    },
    {
      name: 'eth0.7',
      received: { bytes: 2n ** 64n - 1n, packets: 0n, errors: 0n, dropped: 0n },
      sent: { bytes: 0n, packets: 0n, errors: 0n, dropped: 0n },
    },
  ])
})

test('a namespace without interfaces has none', () => {
  assert.equal(parseCounters(HEAD), [])
})

test('a line of another form is an error, and no counter of 0', () => {
  for (const line of ['lo: 1 2 3', 'lo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16', 'lo: a'])
    assert.throws(() => parseCounters(`${HEAD}${line}\n`), /a line that is none/)
})

test.run()
