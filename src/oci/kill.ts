import { constants } from 'node:os'
import { Fault } from '../base/fault.ts'
import { groupProcesses, killGroup } from '../cgroup/index.ts'
import { openProcess, signalProcess } from '../kernel/process.ts'
import { ownCgroup } from './cgroup.ts'
import { hasOwnPids } from './plain.ts'
import { lockContainer, type OciRecord, type Place, readKeptConfig, readRecord } from './record.ts'
import { isAlive, statusOf } from './status.ts'

const { SIGKILL } = constants.signals
/** _NSIG of the kernel. */
const SIGNAL_MAX = 64

/** A number, or a name with or without SIG. 0 asks only whether there is somebody to signal (kill(2)). */
export function parseSignal(text: string): number {
  const name = text.toUpperCase()
  const known = constants.signals as Readonly<Record<string, number>>
  const number = /^\d+$/.test(text) ? Number(text) : (known[name] ?? known[`SIG${name}`])
  if (number === undefined || number < 0 || number > SIGNAL_MAX) {
    throw new Fault('INVALID_ARGUMENT', `unknown signal ${JSON.stringify(text)}`)
  }
  return number
}

/** Sends a signal to the first process, with `all` to every process. */
export async function signalContainer(place: Place, signal: number, all: boolean): Promise<void> {
  using _lock = await lockContainer(place)
  const record = readRecord(place)
  const status = await statusOf(place, record)
  // Without a PID namespace of its own the end of the first process is not that of the others.
  const isShared = !record.plain && !hasOwnPids(readKeptConfig(place).linux)
  if (all || (isShared && signal === SIGKILL)) {
    signalAll(record, signal)
    if (all || status === 'stopped') return
  }
  if (status === 'stopped' || status === 'creating') {
    throw new Fault('FAILED_PRECONDITION', `container not running: ${record.id} is ${status}`)
  }
  signalFirst(record, signal)
}

export function killContainer(record: OciRecord): void {
  signalFirst(record, SIGKILL)
}

function signalFirst(record: OciRecord, signal: number): void {
  // Of a container that is removed it has most often ended, and the exception would cost as much as twenty looks.
  if (!isAlive(record)) return
  // Looked at after it is held: the number may be another process's by now.
  using process = record.pid === undefined ? undefined : openProcess(record.pid)
  if (process && isAlive(record)) signalProcess(process, signal)
}

function signalAll(record: OciRecord, signal: number): void {
  using cgroup = ownCgroup(record)
  if (!cgroup) return
  if (signal === SIGKILL) {
    killGroup(cgroup.path)
    return
  }
  for (const pid of groupProcesses(cgroup.path)) {
    using process = openProcess(pid)
    if (process) signalProcess(process, signal)
  }
}
