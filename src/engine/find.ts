import { Fault } from '../base/fault.ts'
import type { Engine } from './open.ts'
import { containerIds, readRecord, resolveId } from './record.ts'
import { containerStatus } from './status.ts'
import type { Container } from './types.ts'

/** `ref` is a name, an id or a unique prefix of one. NOT_FOUND or INVALID_ARGUMENT (ambiguous). */
export async function findContainer(engine: Engine, ref: string): Promise<Container> {
  const id = resolveId(engine, ref)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  return { record, status: containerStatus(engine, record) }
}

/** Newest first. Without `all` only running and paused ones. A damaged record is told of and left out. */
export async function listContainers(
  engine: Engine,
  options: { all: boolean },
): Promise<Container[]> {
  const containers = containerIds(engine).flatMap((id): Container[] => {
    try {
      const record = readRecord(engine, id)
      return record ? [{ record, status: containerStatus(engine, record) }] : []
    } catch (error) {
      engine.warn(error instanceof Error ? error.message : String(error))
      return []
    }
  })
  return containers
    .filter(({ status }) => options.all || status.state === 'running' || status.state === 'paused')
    .sort((a, b) => (BigInt(a.record.createdNs) < BigInt(b.record.createdNs) ? 1 : -1))
}
