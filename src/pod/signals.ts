import { invalid, show } from '../plan/check.ts'
import type { Signal } from '../spec/cri.ts'
import { SIGNAL_RTMAX, SIGNAL_RTMIN, signalName, signalNumber } from '../spec/linux.ts'

const SIGTERM = 15
/** Of the realtime signals the CRI counts the first sixteen from the lowest, the others from the highest. */
const COUNTED_FROM_LOWEST = 15

/** What asks a container to end: the client's signal, else the image's, else TERM. */
export function stopSignal(asked: Signal, imageSignal: string | undefined): number {
  if (asked !== 'SIGNAL_RUNTIME_DEFAULT') {
    const name = String(asked)
      .replace(/^SIGNAL_/, '')
      .replace('PLUS', '+')
      .replace('MINUS', '-')
    return known('stop_signal', asked, name)
  }
  if (imageSignal === undefined || imageSignal === '') return SIGTERM
  return known("the image's StopSignal", imageSignal, imageSignal)
}

function known(field: string, given: string, name: string): number {
  const number = signalNumber(name)
  if (number === undefined) throw invalid(field, `${show(given)} is no signal`)
  return number
}

/** The CRI's name of a signal, for ContainerStatus. It has none for the two that a C library keeps for itself. */
export function signalOf(number: number): Signal {
  if (number === SIGNAL_RTMAX) return 'SIGNAL_SIGRTMAX'
  if (number > SIGNAL_RTMIN + COUNTED_FROM_LOWEST) {
    return `SIGNAL_SIGRTMAXMINUS${SIGNAL_RTMAX - number}` as Signal
  }
  if (number > SIGNAL_RTMIN) return `SIGNAL_SIGRTMINPLUS${number - SIGNAL_RTMIN}` as Signal
  const name = signalName(number)
  return name.startsWith('SIG') ? (`SIGNAL_${name}` as Signal) : 'SIGNAL_RUNTIME_DEFAULT'
}
