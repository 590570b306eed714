import { constants, openSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { isFrozen } from '../cgroup/index.ts'
import { Fd } from '../kernel/fd.ts'
import type { OciRecord, Place } from './record.ts'

/** runtime-spec, "State", and `paused` as runc has it. */
export type Status = 'creating' | 'created' | 'running' | 'paused' | 'stopped'

/** Derived from what is true now: the process, whether it still waits for its start, the freezer. */
export async function statusOf(place: Place, record: OciRecord): Promise<Status> {
  if (record.pid === undefined) return 'creating'
  if (!isAlive(record)) return 'stopped'
  if (isFrozen(record.cgroup)) return 'paused'
  const waiting = await connectStart(place)
  waiting?.destroy()
  return waiting ? 'created' : 'running'
}

/** Whether the first process runs; one that has ended and that nobody has waited for does not. */
export function isAlive({ pid, startTime }: OciRecord): boolean {
  if (pid === undefined) return false
  const now = processTimes(pid)
  return now !== undefined && now.startTime === startTime && !'ZX'.includes(now.state)
}

/** proc(5), /proc/PID/stat: the state's letter, and when it started in clock ticks since the boot, which tells it from a later one of its number. */
export function processTimes(pid: number): { state: string; startTime: string } | undefined {
  const text = readFileIfAnyProcess(`/proc/${pid}/stat`)
  // The name in parentheses may hold anything.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, startTime] = [fields?.[0], fields?.[19]]
  return state === undefined || startTime === undefined ? undefined : { state, startTime }
}

function readFileIfAnyProcess(path: string): string | undefined {
  try {
    return readFileIfAny(path)
  } catch (error) {
    // It ended between open and read.
    if (isErrno(error, 'ESRCH')) return undefined
    throw error
  }
}

/** A connection to a container that waits for its start; undefined where it does not. */
export async function connectStart(place: Place): Promise<Socket | undefined> {
  let directory: Fd
  try {
    directory = new Fd(openSync(place.directory, constants.O_RDONLY | constants.O_DIRECTORY))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  using _ = directory
  // Not by the directory's own path, which may be longer than a socket's may be.
  const path = `/proc/self/fd/${directory.number}/start`
  return await new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true })
    socket.once('connect', () => resolve(socket))
    socket.once('error', (error) => {
      // ECONNRESET: it was killed just now.
      if (isErrno(error, 'ENOENT', 'ECONNREFUSED', 'ECONNRESET')) resolve(undefined)
      else reject(new Fault('INTERNAL', `cannot reach ${place.start}`, { cause: error }))
    })
  })
}

/** runtime-spec, "State"; what hooks get on their stdin. */
export function stateOf(record: OciRecord, status: Status, pid = record.pid): object {
  const hasProcess = status !== 'stopped' && pid !== undefined
  return {
    ociVersion: record.ociVersion,
    id: record.id,
    status,
    ...(hasProcess ? { pid } : {}),
    bundle: record.bundle,
    ...(Object.keys(record.annotations).length > 0 ? { annotations: record.annotations } : {}),
  }
}
