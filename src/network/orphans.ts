import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** A killed plugin that is not gone by then hangs in the kernel, and nobody can wait for it. */
const END_MS = 5000
const LOOK_MS = 20

/**
 * Kills plugins that still work for one of these containers: those of a process that was killed itself. Else a DEL would run beside an ADD, be done first,
 * and leave what that one makes after it.
 */
export async function endOrphans(isAbandoned: (containerId: string) => boolean): Promise<void> {
  const until = performance.now() + END_MS
  for (;;) {
    const found = pluginProcesses().filter(({ containerId }) => isAbandoned(containerId))
    if (found.length === 0 || performance.now() > until) return
    for (const { pid } of found) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }
    await delay(LOOK_MS)
  }
}

/** A plugin and what it has started have its variables, in which the specification puts the container. */
function pluginProcesses(): { pid: number; containerId: string }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    const id = /(?:^|\0)CNI_CONTAINERID=([^\0]+)/.exec(environment(name))?.[1]
    return id === undefined ? [] : [{ pid: Number(name), containerId: id }]
  })
}

function environment(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1')
  } catch {
    return ''
  }
}
