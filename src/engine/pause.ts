import { Fault } from '../base/fault.ts'
import { freezeCgroup, thawCgroup } from '../container/index.ts'
import { emit } from './events.ts'
import { thawAbandoned } from './freeze.ts'
import type { Engine } from './open.ts'
import { lockContainer, readRecord, resolveId } from './record.ts'
import { about } from './start.ts'
import { containerStatus, readRunMark } from './status.ts'
import type { ContainerRecord } from './types.ts'

/** Freezes every process of the container, as one. */
export function pauseContainer(engine: Engine, ref: string): Promise<void> {
  return change(engine, ref, 'pause', 'running', freezeCgroup)
}

export function unpauseContainer(engine: Engine, ref: string): Promise<void> {
  return change(engine, ref, 'unpause', 'paused', thawCgroup)
}

async function change(
  engine: Engine,
  ref: string,
  verb: 'pause' | 'unpause',
  from: 'running' | 'paused',
  act: (cgroup: string) => Promise<void>,
): Promise<void> {
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record: ContainerRecord | undefined = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  const wasAbandoned = await thawAbandoned(engine, id)
  const { state } = containerStatus(engine, record)
  if (wasAbandoned && verb === 'unpause') return
  if (state !== from)
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot ${verb} container ${record.name}: it is ${state}`,
    )
  await act(readRunMark(engine, id)?.cgroup ?? '')
  emit(engine, about(record, verb))
}
