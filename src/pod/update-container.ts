import { nowNs } from '../base/clock.ts'
import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { cgroupHost, requireControllers } from '../cgroup/index.ts'
import { updateCgroup } from '../container/index.ts'
import type { LinuxContainerResources } from '../spec/cri.ts'
import { within } from './check.ts'
import type { Node } from './node.ts'
import { checkedResources, mergedResources, ociResources } from './resources.ts'

/** Changes limits: all of them or none, and what ContainerStatus says with them. */
export async function updateContainer(
  node: Node,
  id: string,
  asked: LinuxContainerResources,
): Promise<void> {
  const container = node.mustContainer(id)
  await node.turns.take(container.id, async () => {
    const { pod, record, status } = container
    if (status.state === 'exited' || container.removing) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot update container ${container.id.slice(0, 12)}: it has exited`,
      )
    }
    const before = record.resources
    const resources = mergedResources(before, checkedResources('linux', asked))
    const changed = { ...record, resources }
    const limits = ociResources('linux', resources, cgroupHost().controllers)
    if (node.settings.missingControllers === 'refuse')
      within('linux', () => requireControllers(cgroupHost(), limits))
    // The kernel would make room by killing.
    if (limits.memory && isLower(resources.memoryLimitInBytes, before.memoryLimitInBytes))
      limits.memory.checkBeforeUpdate = true
    const path = node.at.record(pod.id, container.id)
    // The record first: a limit that is in force and not on record would be gone with the daemon's next look at it.
    writeFileAtomic(path, JSON.stringify(changed))
    try {
      if (status.state === 'running') {
        await updateCgroup(
          container.cgroup,
          limits,
          (text) => node.warn(text),
          node.settings.missingControllers,
        )
      }
    } catch (error) {
      writeFileAtomic(path, JSON.stringify(record))
      throw error
    }
    container.record = changed
    // There is no event of it, and who compares times must see it all the same.
    pod.changedNs = String(nowNs())
  })
}

/** 0 and -1 are no limit. */
function isLower(after: string, before: string): boolean {
  const [now, then] = [Number(after), Number(before)]
  return now > 0 && (then <= 0 || now < then)
}
