import { Fault } from '../base/fault.ts'
import { isFrozenForAWhile } from './freeze.ts'
import type { Engine } from './open.ts'
import { containerIds, readRecord, resolveId, tryLockContainer } from './record.ts'
import { containerStatus, isUnrecordedEnd } from './status.ts'
import type { Container, ContainerRecord, ContainerStatus } from './types.ts'

/** `ref` is a name, an id or a unique prefix of one. NOT_FOUND or INVALID_ARGUMENT (ambiguous). */
export async function findContainer(engine: Engine, ref: string): Promise<Container> {
  const id = resolveId(engine, ref)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  return { record, status: await settledStatus(engine, record) }
}

/** Newest first. Without `all` only running and paused ones. A damaged record is told of and left out. */
export async function listContainers(
  engine: Engine,
  options: { all: boolean },
): Promise<Container[]> {
  const containers: Container[] = []
  for (const id of containerIds(engine)) {
    try {
      const record = readRecord(engine, id)
      if (record) containers.push({ record, status: await settledStatus(engine, record) })
    } catch (error) {
      engine.warn(error instanceof Error ? error.message : String(error))
    }
  }
  return containers
    .filter(({ status }) => options.all || status.state === 'running' || status.state === 'paused')
    .sort((a, b) => (BigInt(a.record.createdNs) < BigInt(b.record.createdNs) ? 1 : -1))
}

/**
 * The status, after taking away what a lost container has left: its monitor was killed, and its processes would go on with nobody to tell of them. One that
 * a killed berth has left frozen runs on. Where another command holds the container that one does it.
 */
async function settledStatus(engine: Engine, record: ContainerRecord): Promise<ContainerStatus> {
  const status = containerStatus(engine, record)
  const isLeftFrozen = status.state === 'paused' && isFrozenForAWhile(engine, record.id)
  if (!isUnrecordedEnd(status) && !isLeftFrozen) return status
  using lock = tryLockContainer(engine, record.id)
  const current = lock && readRecord(engine, record.id)
  if (!current) return status
  const { recover } = await import('./recover.ts')
  try {
    await recover(engine, current)
  } catch (error) {
    engine.warn(
      `cannot take away what container ${record.name} has left: ${(error as Error).message}`,
    )
  }
  return containerStatus(engine, current)
}
