import { setTimeout as delay } from 'node:timers/promises'
import { describe, Fault } from '../base/fault.ts'
import type { Caller } from '../kernel/caller.ts'
import { planHooks } from '../plan/index.ts'
import { destroyCgroup } from './cgroup.ts'
import { runHooks } from './hooks.ts'
import { killContainer } from './kill.ts'
import {
  emptyTrash,
  lockContainer,
  type OciRecord,
  type Place,
  readKeptConfig,
  readRecordIfAny,
  removePlace,
} from './record.ts'
import { isAlive, stateOf, statusOf } from './status.ts'

/** For a killed process to end. */
const END_MS = 10_000
const POLL_MS = 5

/** Takes away what is left of a container; with `force` one that runs, too, and one that is not there is no error. */
export async function deleteContainer(
  caller: Caller,
  root: string,
  place: Place,
  options: { readonly force: boolean; readonly warn: (message: string) => void },
): Promise<void> {
  try {
    using _lock = await lockContainer(place)
    await deleteLocked(caller, root, place, options)
  } catch (error) {
    if (!(options.force && error instanceof Fault && error.code === 'NOT_FOUND')) throw error
  }
  emptyTrash(root)
}

async function deleteLocked(
  caller: Caller,
  root: string,
  place: Place,
  { force, warn }: { readonly force: boolean; readonly warn: (message: string) => void },
): Promise<void> {
  const record = readRecordIfAny(place)
  // Killed before anything but the directory was made.
  if (!record) return removePlace(root, place)
  const status = await statusOf(place, record)
  if (!force && (status === 'running' || status === 'paused')) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot delete container ${record.id} that is not stopped: ${status}`,
    )
  }
  killContainer(record)
  await destroyCgroup(record)
  await ended(record)
  if (record.pid !== undefined && !record.plain) await afterStop(caller, place, record, warn)
  removePlace(root, place)
}

/** Its cgroup is empty by now; a process that has left it is waited for. */
async function ended(record: OciRecord): Promise<void> {
  for (let waited = 0; isAlive(record); waited += POLL_MS) {
    if (waited > END_MS) {
      throw new Fault('DEADLINE_EXCEEDED', `process ${record.pid} of ${record.id} does not end`)
    }
    await delay(POLL_MS)
  }
}

/** runtime-spec, "Lifecycle": a poststop hook that fails is told, and the container is deleted all the same. */
async function afterStop(
  caller: Caller,
  place: Place,
  record: OciRecord,
  warn: (message: string) => void,
): Promise<void> {
  try {
    const { poststop } = planHooks(readKeptConfig(place).hooks)
    await runHooks(caller, 'poststop', poststop, {
      state: stateOf(record, 'stopped'),
      bundle: record.bundle,
    })
  } catch (error) {
    warn(describe(error))
  }
}
