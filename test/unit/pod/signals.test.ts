import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { signalOf, stopSignal } from '../../../src/pod/signals.ts'
import type { Signal } from '../../../src/spec/cri.ts'
import { refused } from './config.ts'

const CASES: [asked: Signal, image: string | undefined, number: number][] = [
  ['SIGNAL_RUNTIME_DEFAULT', undefined, 15],
  ['SIGNAL_RUNTIME_DEFAULT', '', 15],
  ['SIGNAL_RUNTIME_DEFAULT', 'SIGQUIT', 3],
  ['SIGNAL_RUNTIME_DEFAULT', 'RTMIN+3', 37],
  ['SIGNAL_SIGKILL', 'SIGQUIT', 9],
  ['SIGNAL_SIGRTMIN', undefined, 34],
  ['SIGNAL_SIGRTMINPLUS1', undefined, 35],
  ['SIGNAL_SIGRTMINPLUS15', undefined, 49],
  ['SIGNAL_SIGRTMAXMINUS14', undefined, 50],
  ['SIGNAL_SIGRTMAX', undefined, 64],
]
for (const [asked, image, number] of CASES) {
  test(`${asked} with the image's ${image} is ${number}`, () =>
    assert.is(stopSignal(asked, image), number))
}

test('every signal that a container may have goes back to a name with its number', () => {
  for (let number = 1; number <= 64; number++) {
    const signal = signalOf(number)
    if (number === 32 || number === 33) assert.is(signal, 'SIGNAL_RUNTIME_DEFAULT')
    else assert.is(stopSignal(signal, undefined), number)
  }
})

test('what is no signal is refused', () => {
  const unset = 'SIGNAL_RUNTIME_DEFAULT'
  refused(() => stopSignal(unset, 'rm -rf'), 'INVALID_ARGUMENT', /image's StopSignal: "rm -rf"/)
  refused(() => stopSignal(77 as never, undefined), 'INVALID_ARGUMENT', /^stop_signal/)
})

test.run()
