import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ALL_CAPABILITIES,
  DEFAULT_CAPABILITIES,
  defaultMounts,
} from '../../../src/spec/defaults.ts'
import { signalName, signalNumber } from '../../../src/spec/linux.ts'

const signals: [string, number | undefined][] = [
  ['SIGTERM', 15],
  ['term', 15],
  ['9', 9],
  ['64', 64],
  ['0', undefined],
  ['65', undefined],
  ['RTMIN', 34],
  ['SIGRTMIN+3', 37],
  ['SIGRTMAX-2', 62],
  ['SIGRTMIN+30', 64],
  ['SIGRTMIN+31', undefined],
  ['SIGRTMIN-1', undefined],
  ['toString', undefined],
  ['SIG', undefined],
  ['', undefined],
]
for (const [text, number] of signals) {
  test(`"${text}" is signal ${number}`, () => assert.is(signalNumber(text), number))
}

test('every signal number has a name that gives it back', () => {
  for (let n = 1; n <= 64; n++) if (n < 32 || n > 33) assert.is(signalNumber(signalName(n)), n)
})

test('there are 41 capabilities, and the 14 defaults are among them', () => {
  assert.is(ALL_CAPABILITIES.length, 41)
  assert.is(new Set(DEFAULT_CAPABILITIES).size, 14)
  for (const name of DEFAULT_CAPABILITIES) assert.ok(ALL_CAPABILITIES.includes(name))
})

test('the size of /dev/shm is as asked', () => {
  const shm = defaultMounts({ shmSize: 4096 }).find((m) => m.destination === '/dev/shm')
  assert.ok(shm?.options?.includes('size=4096'))
})

test.run()
