import { readFileSync, readlinkSync, statSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'

/** Below /proc/PID/ns: where a path, an address or a process number means the same, and what a child inherits. */
const NAMESPACES = 'cgroup ipc mnt net pid pid_for_children time time_for_children user uts'.split(
  ' ',
)
/** Of /proc/PID/status: what a process may do. */
const RIGHTS = /^(?:Cap(?:Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):.*$/gm

let us: string | undefined

/** Whether a process sees the machine as this one does and may do the same: only then is a command the same whoever of the two does it. */
export function isLikeUs(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    // What we are does not change.
    us ??= describeProcess('self')
    return describeProcess(pid) === us
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return false
    throw error
  }
}

function describeProcess(pid: number | 'self'): string {
  const { dev, ino } = statSync(`/proc/${pid}/root`)
  const namespaces = NAMESPACES.map((name) => readlinkSync(`/proc/${pid}/ns/${name}`))
  const rights = readFileSync(`/proc/${pid}/status`, 'utf8').match(RIGHTS) ?? []
  return [dev, ino, ...namespaces, ...rights].join('\n')
}
