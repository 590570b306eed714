import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny, writeFileAtomic } from '../base/file.ts'
import { isMonitorAlive } from '../container/monitor.ts'
import { isLocked } from '../kernel/lock.ts'
import type { Roots } from './types.ts'

/**
 * Keeps on record which STATE goes with ROOT: with another one all that runs would look as if it were lost with its monitor, and be ended. FAILED_PRECONDITION
 * while something of ROOT still lives in the other; after a reboot, and where all has ended, any may take its place.
 */
export function claimRoot({ root, state }: Roots): void {
  const path = join(root, 'state')
  const known = readFileIfAny(path)?.trim()
  if (known === state) return
  if (known !== undefined && isAbsolute(known) && !isSame(known, state) && isInUse(known)) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `${root} is in use with --state ${known}: give that one, or another --root for another berth`,
    )
  }
  try {
    writeFileAtomic(path, `${state}\n`)
  } catch (error) {
    // That must not keep anybody from removing something.
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error
  }
}

/** By another name. */
const isSame = (a: string, b: string): boolean =>
  existsSync(a) && realpathSync(a) === realpathSync(b)

/** A container, a pod or a daemon. */
function isInUse(state: string): boolean {
  const lives = (directory: string): boolean =>
    namesIn(directory).some((name) => isMonitorAlive(join(directory, name)))
  return (
    isLocked(join(state, 'serve.lock')) ||
    lives(join(state, 'containers')) ||
    lives(join(state, 'pods'))
  )
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
