import { rmdirSync, statSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { monotonicMs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  DT_DIR,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { groupProcesses, waitEmpty } from './control.ts'

/** Of a directory with no other in it. */
const LINKS_ALONE = 2
/** How long killed processes are given to end. */
const WAIT_MS = 10_000

/**
 * Removes the group and what a container made below it. Processes that are being killed are waited for; with others in it this is
 * DEADLINE_EXCEEDED after `timeoutMs`. No error where it is gone.
 */
export async function removeGroup(directory: string, timeoutMs = WAIT_MS): Promise<void> {
  const deadline = monotonicMs() + timeoutMs
  for (;;) {
    if (removeNow(directory)) return
    const left = deadline - monotonicMs()
    const empty = left > 0 && (await waitEmpty(directory, left))
    if (!empty) {
      throw new Fault(
        'DEADLINE_EXCEEDED',
        `cannot remove ${directory}: processes ${groupProcesses(directory).slice(0, 8).join(', ')} live in it`,
      )
    }
    // Empty and still EBUSY: somebody made a group below in this moment, or the kernel is not yet done with the last process.
    if (!removeNow(directory)) await delay(1)
    else return
  }
}

/** Removes a group that others may be using, such as DEFAULT_PARENT's directory, only if nothing is below it. Says whether it did. */
export function removeParentIfEmpty(directory: string): boolean {
  // A directory of the hierarchy has a link of its own, its entry above, and one of each group below: an exception costs as much as twenty of these.
  const links = statSync(directory, { throwIfNoEntry: false })?.nlink ?? 0
  if (links !== LINKS_ALONE) return false
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    if (isErrno(error, 'EBUSY', 'ENOTEMPTY', 'ENOENT')) return false
    throw error
  }
}

/** Whether the group and everything below is gone now; false where a process is left in it. */
function removeNow(directory: string): boolean {
  const removal = tryRemove(AT_FDCWD, directory)
  if (removal !== 'busy') return true
  using below = openDirectory(AT_FDCWD, directory)
  if (!below) return true
  if (!removeBelow(below)) return false
  return tryRemove(AT_FDCWD, directory) !== 'busy'
}

/**
 * Removes all groups below a directory, however deep: a container that was given its cgroup may have nested them beyond any path's
 * length or any stack, so this walks by fd and comes back by "..".
 */
function removeBelow(top: Fd): boolean {
  const trail: Buffer[] = []
  let here = new Fd(binding.openat2(top.number, '.', O_RDONLY | O_DIRECTORY, 0, 0))
  try {
    for (;;) {
      const child = binding
        .readdir(here.number)
        .find((entry) => entry.type === DT_DIR && tryRemove(here.number, entry.name) === 'busy')
      const name = child?.name ?? trail.at(-1)
      if (name === undefined) return true
      const next = openDirectory(here.number, child?.name ?? '..')
      if (!next) continue
      here.close()
      here = next
      if (child) trail.push(name)
      // Nothing is left below it: what still keeps it is a process.
      else if (tryRemove(here.number, trail.pop() ?? name) === 'busy') return false
    }
  } finally {
    here.close()
  }
}

function tryRemove(dirfd: number, name: string | Buffer): 'removed' | 'gone' | 'busy' {
  try {
    binding.unlinkat(dirfd, name, AT_REMOVEDIR)
    return 'removed'
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return 'gone'
    if (isErrno(error, 'EBUSY', 'ENOTEMPTY')) return 'busy'
    throw error
  }
}

function openDirectory(dirfd: number, name: string | Buffer): Fd | undefined {
  try {
    return new Fd(binding.openat2(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return undefined
    throw error
  }
}
