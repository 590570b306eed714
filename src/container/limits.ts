import { Fault } from '../base/fault.ts'
import { freezeGroup, type MissingController, thawGroup, updateGroup } from '../cgroup/index.ts'
import type { Resources } from '../spec/runtime.ts'

/** Freezes every process of a container, as one; after an error it runs as before. */
export function freezeCgroup(cgroup: string): Promise<void> {
  return freezeGroup(known(cgroup))
}

/** DEADLINE_EXCEEDED where it is still frozen after the time: a group above it is. */
export function thawCgroup(cgroup: string, timeoutMs?: number): Promise<void> {
  return thawGroup(known(cgroup), timeoutMs)
}

/** Puts changed limits in force: all of them, or none. */
export async function updateCgroup(
  cgroup: string,
  resources: Resources,
  warn: (message: string) => void,
  missing: MissingController = 'refuse',
): Promise<void> {
  for (const warning of await updateGroup(known(cgroup), resources, missing)) warn(warning)
}

function known(cgroup: string): string {
  if (cgroup === '')
    throw new Fault('DATA_LOSS', "the container's cgroup is not known: its run.json is missing")
  return cgroup
}
