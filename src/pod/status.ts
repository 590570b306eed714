import { nowNs } from '../base/clock.ts'
import type { ContainerExit } from '../container/monitor.ts'
import { bootId, UNKNOWN_EXIT } from '../engine/status.ts'
import type { Container } from './model.ts'
import type { RunMark } from './records.ts'
import type { ContainerStatus } from './types.ts'

export const CREATED: ContainerStatus = {
  state: 'created',
  pid: 0,
  startedNs: '0',
  finishedNs: '0',
  exitCode: 0,
  reason: '',
  message: '',
}

/** The words that the kubelet and its users know: OOMKilled is read by programs, the others by people. */
export function exitedStatus(exit: ContainerExit): ContainerStatus {
  return {
    state: 'exited',
    pid: 0,
    startedNs: exit.startedNs,
    finishedNs: exit.finishedNs,
    exitCode: exit.code,
    reason: reasonOf(exit),
    message: messageOf(exit),
  }
}

/** Of SIGKILL, or of a shell whose program has died by it. */
const KILLED = 137

/** The kernel may have taken another process of the container, which then went on or ended for reasons of its own. */
const diedOfMemory = ({ oomKilled, code }: ContainerExit): boolean => oomKilled && code === KILLED

function messageOf(exit: ContainerExit): string {
  if (exit.error !== '' || !exit.oomKilled || diedOfMemory(exit)) return exit.error
  return 'the kernel has killed a process of it, not the first one, for lack of memory'
}

function reasonOf(exit: ContainerExit): string {
  if (diedOfMemory(exit)) return 'OOMKilled'
  // It has never run.
  if (exit.startedNs === '0') return exit.code === UNKNOWN_EXIT ? 'Unknown' : 'StartError'
  if (exit.code === UNKNOWN_EXIT && exit.error !== '') return 'Unknown'
  return exit.code === 0 ? 'Completed' : 'Error'
}

/** The record of an end that nobody has seen. */
export function lostExit(
  container: Pick<Container, 'id' | 'record'>,
  mark: RunMark,
): ContainerExit {
  return {
    id: container.id,
    code: UNKNOWN_EXIT,
    signal: 0,
    oomKilled: false,
    createdNs: container.record.createdNs,
    startedNs: mark.startNs,
    finishedNs: String(nowNs()),
    error:
      mark.bootId === bootId() || mark.bootId === ''
        ? 'its monitor was killed, so its exit code is not known'
        : 'the machine was restarted while it ran, so its exit code is not known',
    restarts: 0,
  }
}
