import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'

/** What this host's cgroup v2 hierarchy is and can do, as facts. */
export interface CgroupHost {
  /** Where the hierarchy is mounted, such as /sys/fs/cgroup. */
  readonly root: string
  /** Controllers that groups below the root can have; on a hybrid host few, because v1 holds the others. */
  readonly controllers: readonly string[]
  /** cgroup v1 hierarchies are mounted, too. */
  readonly hybrid: boolean
  /** The mount is not read-only: groups can be made. */
  readonly writable: boolean
}

let known: CgroupHost | undefined

/** This host's facts, read once in a process's life. FAILED_PRECONDITION where no cgroup v2 hierarchy is mounted. */
export function cgroupHost(): CgroupHost {
  known ??= readHost(readFileSync('/proc/self/mountinfo', 'utf8'))
  return known
}

function readHost(mountinfo: string): CgroupHost {
  const found = findHierarchy(mountinfo)
  if (!found) {
    throw new Fault(
      'FAILED_PRECONDITION',
      'no cgroup v2 hierarchy is mounted: boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup',
    )
  }
  const controllers = words(readFileSync(join(found.root, 'cgroup.controllers'), 'utf8'))
  return { ...found, controllers }
}

/** The cgroup v2 mount in the text of a mountinfo file: /sys/fs/cgroup before /sys/fs/cgroup/unified before any other. */
export function findHierarchy(
  mountinfo: string,
): { root: string; hybrid: boolean; writable: boolean } | undefined {
  const mounts: { root: string; writable: boolean }[] = []
  let hybrid = false
  for (const line of mountinfo.split('\n')) {
    // proc(5): id parent major:minor root mount-point options [tags…] - type source super-options.
    const [before = '', after = ''] = line.split(' - ', 2)
    const [type, , superOptions = ''] = after.split(' ')
    const [, , , , mountPoint, options = ''] = before.split(' ')
    if (type === 'cgroup') hybrid = true
    if (type !== 'cgroup2' || mountPoint === undefined) continue
    const writable = !options.split(',').includes('ro') && !superOptions.split(',').includes('ro')
    mounts.push({ root: unescapeOctal(mountPoint), writable })
  }
  for (const preferred of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
    // The last one at a place covers those before it.
    const at = mounts.findLast((mount) => mount.root === preferred)
    if (at) return { ...at, hybrid }
  }
  const first = mounts[0]
  return first && { ...first, hybrid }
}

/** mountinfo writes space, tab, newline and backslash as \ooo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
}

/** The words of a one-line kernel file. */
export function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
