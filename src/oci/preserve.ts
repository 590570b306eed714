import { readlinkSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import type { Caller } from '../kernel/caller.ts'

/** As native/init/launch.h. */
const PRESERVED_MAX = 256
/** What Node opens first, and so has in the first place that its caller has left free; no caller hands one on. */
const OF_NODE = 'anon_inode:[eventpoll]'

/** How many of the caller's descriptors from 3 on the program gets: those of LISTEN_FDS first. One that the caller has not opened is refused: Node has others in its place. */
export function preservedCount({ pid }: Pick<Caller, 'pid'>, text: string, listening = 0): number {
  const count = Number(text) + listening
  if (!/^\d+$/.test(text) || count > PRESERVED_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--preserve-fds: ${text} is not 0 to ${PRESERVED_MAX - listening}`,
    )
  }
  for (let fd = 3; fd < 3 + count; fd++) {
    if (isOpen(pid, fd)) continue
    const what = fd < 3 + listening ? `LISTEN_FDS=${listening}` : `--preserve-fds ${text}`
    throw new Fault('INVALID_ARGUMENT', `${what}: descriptor ${fd} is not open`)
  }
  return count
}

function isOpen(pid: Caller['pid'], fd: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`) !== OF_NODE
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
