import { isErrno } from '../base/fault.ts'
import { binding } from './binding.ts'
import { Fd } from './fd.ts'

/**
 * A process that cannot be mistaken for a later one with the same number. Undefined where there is none; a zombie counts as one.
 */
export function openProcess(pid: number): Fd | undefined {
  try {
    return new Fd(binding.pidfdOpen(pid))
  } catch (error) {
    // EINVAL: the number is a thread's, or no pid at all.
    if (isErrno(error, 'ESRCH', 'EINVAL')) return undefined
    throw error
  }
}

/** Sends a signal; false where the process is gone. */
export function signalProcess(process: Fd, signal: number): boolean {
  try {
    binding.pidfdSendSignal(process.number, signal)
    return true
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false
    throw error
  }
}
