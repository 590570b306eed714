import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { freezeCgroup, thawCgroup } from '../container/index.ts'
import type { Engine } from './open.ts'
import { readRunMark } from './status.ts'

/**
 * Runs `act` while every process of a running container is frozen. Killed (SIGKILL) in it, berth leaves a mark, by which the next command that looks at
 * the container lets it run on. The caller holds the container's lock.
 */
export async function whileFrozen<T>(
  engine: Engine,
  id: string,
  act: () => Promise<T>,
): Promise<T> {
  const cgroup = readRunMark(engine, id)?.cgroup ?? ''
  writeFileSync(engine.at.frozen(id), '', { mode: 0o600 })
  await freezeCgroup(cgroup)
  try {
    return await act()
  } finally {
    await thawCgroup(cgroup)
    rmSync(engine.at.frozen(id), { force: true })
  }
}

/** Whether a container was frozen by berth for a while; one that its user has paused was not. */
export function isFrozenForAWhile(engine: Engine, id: string): boolean {
  return existsSync(engine.at.frozen(id))
}

/** Lets a container run on that a killed berth has left frozen; whether there was one. The caller holds its lock, so nobody is in whileFrozen. */
export async function thawAbandoned(engine: Engine, id: string): Promise<boolean> {
  if (!isFrozenForAWhile(engine, id)) return false
  await thawCgroup(readRunMark(engine, id)?.cgroup ?? '')
  rmSync(engine.at.frozen(id), { force: true })
  return true
}
