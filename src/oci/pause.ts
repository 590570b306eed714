import { Fault } from '../base/fault.ts'
import { freezeGroup, thawGroup } from '../cgroup/index.ts'
import { lockContainer, type Place, readRecord } from './record.ts'
import { statusOf } from './status.ts'

export async function pauseContainer(place: Place): Promise<void> {
  using _lock = await lockContainer(place)
  const record = readRecord(place)
  const status = await statusOf(place, record)
  if (status !== 'running' && status !== 'created') {
    throw new Fault('FAILED_PRECONDITION', `container not running: ${record.id} is ${status}`)
  }
  await freezeGroup(record.cgroup)
}

export async function resumeContainer(place: Place): Promise<void> {
  using _lock = await lockContainer(place)
  const record = readRecord(place)
  const status = await statusOf(place, record)
  if (status !== 'paused') {
    throw new Fault('FAILED_PRECONDITION', `container not paused: ${record.id} is ${status}`)
  }
  await thawGroup(record.cgroup)
}
