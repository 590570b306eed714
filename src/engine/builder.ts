import { randomBytes } from 'node:crypto'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { type FileLock, lockFile, tryLockFile } from '../kernel/lock.ts'
import type { Engine } from './open.ts'
import { containerIds, readRecord } from './record.ts'
import { removeContainer } from './remove.ts'

const NAME = /^build-[0-9a-f]{16}$/

/** The sign of life of a build that has a container of its own: who finds the container without it takes it away. */
export interface Builder extends Disposable {
  /** For the container's record. */
  readonly name: string
}

export async function beginBuilder(engine: Engine): Promise<Builder> {
  const name = `build-${randomBytes(8).toString('hex')}`
  const path = join(engine.at.locks, name)
  const lock = await lockFile(path, { exclusive: true })
  return { name, [Symbol.dispose]: () => end(lock, path) }
}

function end(lock: FileLock, path: string): void {
  rmSync(path, { force: true })
  lock.release()
}

/** Removes the containers of builds that were killed, running or not; their ids. */
export async function removeAbandoned(engine: Engine): Promise<string[]> {
  const removed: string[] = []
  for (const id of containerIds(engine)) {
    const name = builderOf(engine, id)
    if (name === undefined) continue
    const path = join(engine.at.locks, name)
    const lock = tryLockFile(path, { exclusive: true })
    if (!lock) continue
    try {
      await removeContainer(engine, id, { force: true, volumes: true })
      removed.push(id)
    } catch (error) {
      // The build has just ended, and removed it.
      if (!(error instanceof Fault) || error.code !== 'NOT_FOUND') throw error
    } finally {
      end(lock, path)
    }
  }
  // Of a build that was killed before its container had a record.
  for (const name of readdirSync(engine.at.locks).filter((each) => NAME.test(each))) {
    const path = join(engine.at.locks, name)
    const lock = tryLockFile(path, { exclusive: true })
    if (lock) end(lock, path)
  }
  return removed
}

function builderOf(engine: Engine, id: string): string | undefined {
  try {
    const name = readRecord(engine, id)?.builder
    return name !== undefined && NAME.test(name) ? name : undefined
  } catch (error) {
    // Who lists the containers tells of it.
    if (error instanceof Fault && error.code === 'DATA_LOSS') return undefined
    throw error
  }
}
