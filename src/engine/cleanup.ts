import type { Engine } from './open.ts'
import { containerIds, lockContainer, readRecord } from './record.ts'
import { recover } from './recover.ts'
import { removeContainer } from './remove.ts'
import { containerStatus } from './status.ts'

/**
 * What a monitor has berth do after its container (the exit command): the network is given back, and with `remove` the container goes. Does nothing where
 * the container is gone or runs again.
 */
export async function cleanupContainer(
  engine: Engine,
  id: string,
  options: { remove: boolean },
): Promise<void> {
  if (!containerIds(engine).includes(id)) return
  {
    using _lock = await lockContainer(engine, id)
    const record = readRecord(engine, id)
    if (!record || containerStatus(engine, record).state !== 'stopped') return
    await recover(engine, record)
  }
  if (options.remove) await removeContainer(engine, id, { force: false, volumes: true })
}
