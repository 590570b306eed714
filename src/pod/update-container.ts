import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { cgroupHost, requireControllers } from '../cgroup/index.ts'
import { updateCgroup } from '../container/index.ts'
import type { LinuxContainerResources } from '../spec/cri.ts'
import type { Resources } from '../spec/runtime.ts'
import { takeBack } from './ahead.ts'
import { within } from './check.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'
import { checkedResources, mergedResources, ociResources } from './resources.ts'
import type { ContainerRecord } from './types.ts'

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
    // It has the limits from before.
    await takeBack(node, container)
    const before = record.resources
    const resources = mergedResources(before, checkedResources('linux', asked))
    const changed: ContainerRecord = { ...record, resources }
    const limits = ociResources('linux', resources, cgroupHost().controllers)
    if (node.settings.missingControllers === 'refuse')
      within('linux', () => requireControllers(cgroupHost(), limits))
    // The kernel would make room by killing.
    if (limits.memory && isLower(resources.memoryLimitInBytes, before.memoryLimitInBytes))
      limits.memory.checkBeforeUpdate = true
    const write = (value: ContainerRecord): void =>
      writeFileAtomic(node.at.record(pod.id, container.id), JSON.stringify(value))
    if (status.state === 'running') {
      // The record first: a limit that is in force and not on record would be gone with the daemon's next look at it.
      write({ ...changed, isUpdating: true })
      try {
        await setLimits(node, container, limits)
      } catch (error) {
        write(record)
        throw error
      }
      container.record = changed
    }
    write(changed)
    container.record = changed
    // There is no event of it, and who compares times must see it all the same.
    pod.changedNs = String(nowNs())
  })
}

const setLimits = (node: Node, { cgroup }: Container, limits: Resources): Promise<void> =>
  updateCgroup(cgroup, limits, (text) => node.warn(text), node.settings.missingControllers)

/** Does to the end what the daemon before was killed in: what the record says is then in force. */
export async function finishUpdate(node: Node, container: Container): Promise<void> {
  const { pod, id } = container
  const { isUpdating, ...record } = container.record
  if (!isUpdating) return
  container.record = record
  try {
    const limits = ociResources('linux', record.resources, cgroupHost().controllers)
    if (limits.memory) limits.memory.checkBeforeUpdate = true
    await setLimits(node, container, limits)
    writeFileAtomic(node.at.record(pod.id, id), JSON.stringify(record))
  } catch (error) {
    node.warn(`the limits of container ${id} may not be those on record: ${describe(error)}`)
  }
}

/** 0 and -1 are no limit. */
function isLower(after: string, before: string): boolean {
  const [now, then] = [Number(after), Number(before)]
  return now > 0 && (then <= 0 || now < then)
}
