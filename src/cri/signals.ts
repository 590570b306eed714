import { signalName } from '../spec/linux.ts'
import type { Signal } from '../spec/cri.ts'

const SIGRTMIN = 34
const SIGRTMAX = 64
/** The CRI counts real-time signals from both ends, as POSIX programs see them. */
const FROM_START_MAX = 15

/** The CRI's name of a signal of Linux. */
export function signalOfNumber(number: number): Signal {
  if (number >= SIGRTMIN && number <= SIGRTMAX) {
    const above = number - SIGRTMIN
    if (above === 0) return 'SIGNAL_SIGRTMIN'
    if (number === SIGRTMAX) return 'SIGNAL_SIGRTMAX'
    if (above <= FROM_START_MAX) return `SIGNAL_SIGRTMINPLUS${above}` as Signal
    return `SIGNAL_SIGRTMAXMINUS${SIGRTMAX - number}` as Signal
  }
  return `SIGNAL_${signalName(number)}` as Signal
}
