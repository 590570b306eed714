import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readlinkSync, rmSync, symlinkSync, unlinkSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { ensureDirectory, readJsonIfAny, writeFileAtomic } from '../base/file.ts'
import { type FileLock, lockFile, tryLockFile } from '../kernel/lock.ts'
import type { Spec } from '../spec/runtime.ts'
import type { Engine } from './open.ts'
import type { ContainerRecord } from './types.ts'

const ID = /^[0-9a-f]{64}$/
/** docker's rule for names. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/
/** Generated names tried before giving up. */
const NAME_TRIES = 16

export const newId = (): string => randomBytes(32).toString('hex')

export const isId = (name: string): boolean => ID.test(name)

/** All ids that have a directory, whole or half made. */
export function containerIds(engine: Engine): string[] {
  return readdirSync(engine.at.containers).filter(isId)
}

/** The record of a container, or undefined where none is (any more, or yet). */
export function readRecord(engine: Engine, id: string): ContainerRecord | undefined {
  const value = recordValue(engine, id)
  if (value === undefined) return undefined
  if (typeof value === 'object' && value !== null && 'id' in value && value.id === id) {
    return value as ContainerRecord
  }
  throw new Fault(
    'DATA_LOSS',
    `the record ${engine.at.record(id)} is damaged; \`berth rm -f ${id.slice(0, 12)}\` removes the container`,
  )
}

/** What the file holds; null where that is no JSON. */
function recordValue(engine: Engine, id: string): unknown {
  try {
    return readJsonIfAny(engine.at.record(id))
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return null
    throw error
  }
}

export function writeRecord(engine: Engine, record: ContainerRecord): void {
  // One that is removed at its end anyway may be lost in a power cut: then only debris is left, for the next prune.
  const durable = !record.options.remove
  writeFileAtomic(engine.at.record(record.id), JSON.stringify(record), { durable })
}

/** The container's OCI configuration as it was at create. */
export function readConfig(engine: Engine, id: string): Spec {
  const value = readJsonIfAny(engine.at.config(id))
  if (value === undefined) throw new Fault('DATA_LOSS', `${engine.at.config(id)} is missing`)
  return value as Spec
}

/** The id behind a name, an id or a unique prefix of an id. Names win, as with docker. */
export function resolveId(engine: Engine, ref: string): string {
  const named = NAME.test(ref) ? idOfName(engine, ref) : undefined
  if (named !== undefined) return named
  // A whole id needs no list of all.
  if (isId(ref) && existsSync(engine.at.container(ref))) return ref
  if (/^[0-9a-f]{1,64}$/.test(ref)) {
    const matches = containerIds(engine).filter((id) => id.startsWith(ref))
    if (matches.length > 1) {
      throw new Fault('INVALID_ARGUMENT', `"${ref}" is ambiguous: ${matches.length} ids begin so`)
    }
    if (matches[0] !== undefined) return matches[0]
  }
  throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
}

function idOfName(engine: Engine, name: string): string | undefined {
  try {
    const id = readlinkSync(engine.at.name(name))
    return ID.test(id) ? id : undefined
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/**
 * Takes a name for an id: a symbolic link is made whole or not at all, and by one process only. A name left by a create that was killed (its
 * container has no record and nobody holds its lock) is taken over.
 */
export async function reserveName(
  engine: Engine,
  id: string,
  wanted: string | undefined,
): Promise<string> {
  if (wanted !== undefined && !NAME.test(wanted)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${wanted}" is no container name: letters, digits, "_", "." and "-", at most 128, the first a letter or digit`,
    )
  }
  for (let attempt = 0; attempt < NAME_TRIES; attempt++) {
    const name = wanted ?? generatedName()
    try {
      symlinkSync(id, engine.at.name(name))
      return name
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
    if (wanted === undefined) continue
    const holder = idOfName(engine, wanted)
    if (holder !== undefined && !(await isAbandoned(engine, holder))) {
      throw new Fault(
        'ALREADY_EXISTS',
        `the name "${wanted}" is in use by container ${holder.slice(0, 12)}; remove or rename that one`,
      )
    }
    releaseName(engine, wanted, holder)
  }
  throw new Fault('RESOURCE_EXHAUSTED', 'no free container name was found; give one with --name')
}

/** Gives a name back if it is still that id's. */
export function releaseName(engine: Engine, name: string, id: string | undefined): void {
  if (idOfName(engine, name) !== id) return
  try {
    unlinkSync(engine.at.name(name))
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

async function isAbandoned(engine: Engine, id: string): Promise<boolean> {
  // A living create holds the lock until its record is written.
  const lock = await lockContainer(engine, id)
  try {
    return readRecord(engine, id) === undefined
  } finally {
    lock.release()
  }
}

/** Serialises all that changes one container, between processes too. */
export async function lockContainer(engine: Engine, id: string): Promise<FileLock> {
  const lock = await lockNewContainer(engine, id)
  dropIfGone(engine, id)
  return lock
}

/** The same for a container that has no directory yet. */
export function lockNewContainer(engine: Engine, id: string): Promise<FileLock> {
  ensureDirectory(engine.at.locks)
  return lockFile(engine.at.lock(id), { exclusive: true })
}

/** Who waited while the container was removed has made the lock's file anew, and nobody else would remove it. The caller holds the lock. */
function dropIfGone(engine: Engine, id: string): void {
  if (!existsSync(engine.at.container(id))) rmSync(engine.at.lock(id), { force: true })
}

/** The same without waiting: undefined where another command works on the container. */
export function tryLockContainer(engine: Engine, id: string): FileLock | undefined {
  ensureDirectory(engine.at.locks)
  const lock = tryLockFile(engine.at.lock(id), { exclusive: true })
  if (lock) dropIfGone(engine, id)
  return lock
}

const MOODS =
  'amber brisk calm daring early fair gentle hardy keen lively mellow noble open plain quiet ready steady tidy vivid warm'.split(
    ' ',
  )
const THINGS =
  'anchor beacon cable deck ebb ferry gull harbour island jetty keel lantern mast narrows oar pier quay rudder sail tide'.split(
    ' ',
  )

function generatedName(): string {
  const [a = 0, b = 0, c = 0] = randomBytes(3)
  return `${MOODS[a % MOODS.length]}-${THINGS[b % THINGS.length]}-${c.toString(16).padStart(2, '0')}${randomBytes(1).toString('hex')}`
}
