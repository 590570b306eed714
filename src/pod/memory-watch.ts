import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, isErrno } from '../base/fault.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { groupPids, residentBytes } from '../engine/processes.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'

const LOOK_MS = 1000
const SIGKILL = 9
const KIB = 1024

/**
 * Limits of memory on a host whose kernel cannot hold them, for development (`cgroup.missing = "warn"`): the memory of each container with a limit is looked at once a
 * second, and one that has more is killed, as the kernel's OOM killer would with memory.oom.group. What it takes between two looks it has, caches are not counted, and while
 * no daemon runs nobody looks. Ends with the signal.
 */
export async function watchMemory(node: Node, signal: AbortSignal): Promise<void> {
  while (await pause(signal)) {
    if (!isMemoryWatched(node)) continue
    for (const container of node.containers.values()) {
      // Not waited for: a monitor that hangs must keep no other container from being looked at.
      void look(node, container).catch((error) =>
        node.warn(`the memory of container ${container.id} is not watched: ${describe(error)}`),
      )
    }
  }
}

/** Only where nobody else holds the limits, and the configuration allows that. */
export function isMemoryWatched({ settings }: Node): boolean {
  return settings.missingControllers === 'warn' && !cgroupHost().controllers.includes('memory')
}

/** False when the watch is over. */
async function pause(signal: AbortSignal): Promise<boolean> {
  await delay(LOOK_MS, undefined, { signal, ref: false }).catch(() => {})
  return !signal.aborted
}

async function look(node: Node, container: Container): Promise<void> {
  const limit = Number(container.record.resources.memoryLimitInBytes)
  if (limit <= 0 || container.status.state !== 'running' || container.outOfMemory) return
  const pids = groupPids(container.cgroup)
  // Cheap, and never less than what counts: pages of files are among them, and shared ones count for each.
  if (residentBytes(pids) <= limit) return
  const bytes = pids.reduce((sum, pid) => sum + ownBytes(pid), 0)
  // It may have ended meanwhile.
  if (bytes <= limit || container.status.state !== 'running') return
  container.outOfMemory = true
  node.warn(
    `container ${container.id} has ${bytes} bytes of memory, its limit is ${limit}: killed by berth, as this host has no memory controller`,
  )
  try {
    await container.pod.monitor?.signal(container.id, { signal: SIGKILL, all: true })
  } catch (error) {
    container.outOfMemory = false
    throw error
  }
}

/** What the kernel could not take back from a process without swap; of what several share, its part. */
function ownBytes(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
    const kib = [...text.matchAll(/^Pss_(?:Anon|Shmem):\s+(\d+) kB$/gm)].map(([, n]) => Number(n))
    return kib.reduce((sum, n) => sum + n * KIB, 0)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return 0
    throw error
  }
}
