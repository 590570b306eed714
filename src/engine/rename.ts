import { Fault } from '../base/fault.ts'
import { emit } from './events.ts'
import type { Engine } from './open.ts'
import {
  lockContainer,
  readRecord,
  releaseName,
  reserveName,
  resolveId,
  writeRecord,
} from './record.ts'
import { about } from './start.ts'

/** Gives a container another name. Killed in between it has both; the record says which one it is listed by. */
export async function renameContainer(engine: Engine, ref: string, name: string): Promise<void> {
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  if (record.name === name)
    throw new Fault('INVALID_ARGUMENT', `container ${name} has that name already`)
  await reserveName(engine, id, name)
  writeRecord(engine, { ...record, name })
  releaseName(engine, record.name, id)
  emit(engine, about({ ...record, name }, 'rename', { oldName: record.name }))
}
