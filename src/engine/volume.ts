import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny, TEMPORARY, writeFileAtomic } from '../base/file.ts'
import { type FileLock, lockFile } from '../kernel/lock.ts'
import { emit } from './events.ts'
import type { Engine } from './open.ts'
import { containerIds, readRecord } from './record.ts'
import { removeTree } from './trees.ts'
import type { Volume } from './types.ts'

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/

/** ROOT/volumes/NAME/ holds `volume.json` and the data in `_data`, as docker lays it out. */
export function listVolumes(engine: Engine): Promise<Volume[]> {
  const volumes = readdirSync(engine.at.volumes)
    .filter((name) => NAME.test(name))
    .flatMap((name) => readVolume(engine, name) ?? [])
  return Promise.resolve(volumes)
}

export function readVolume(engine: Engine, name: string): Volume | undefined {
  const value = readJsonIfAny(join(engine.at.volumes, name, 'volume.json'))
  if (value === undefined) return undefined
  return { ...(value as Omit<Volume, 'path'>), path: join(engine.at.volumes, name, '_data') }
}

/** Makes a volume, or gives the one of that name. An empty name is an anonymous volume. */
export async function createVolume(
  engine: Engine,
  options: { name: string; labels: Record<string, string> },
): Promise<Volume> {
  const anonymous = options.name === ''
  const name = anonymous ? randomBytes(32).toString('hex') : options.name
  if (!NAME.test(name)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${name}" is no volume name: letters, digits, "_", "." and "-", the first a letter or digit (a host path begins with "/")`,
    )
  }
  const existing = readVolume(engine, name)
  if (existing) return existing
  const record = {
    name,
    createdNs: String(nowNs()),
    labels: options.labels,
    anonymous,
  }
  const directory = join(engine.at.volumes, name)
  const temporary = `${engine.at.volumes}/${TEMPORARY}${randomBytes(6).toString('hex')}`
  mkdirSync(join(temporary, '_data'), { recursive: true, mode: 0o755 })
  writeFileAtomic(join(temporary, 'volume.json'), JSON.stringify(record), { durable: true })
  try {
    renameSync(temporary, directory)
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    // Another process was faster: its volume is the one.
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
  }
  emit(engine, { type: 'volume', action: 'create', id: name, name, attributes: {} })
  const made = readVolume(engine, name)
  if (!made) throw new Fault('DATA_LOSS', `${directory} is in the way: it is no volume of berth`)
  return made
}

/** Keeps every volume where it is: a create holds it from its first volume until its record names them all. Any number hold at once. */
export function holdVolumes(engine: Engine): Promise<FileLock> {
  return lockFile(volumesLock(engine), { exclusive: false })
}

const volumesLock = (engine: Engine): string => join(engine.at.locks, 'volumes')

export async function removeVolume(
  engine: Engine,
  name: string,
  options: { force: boolean },
): Promise<void> {
  const volume = NAME.test(name) ? readVolume(engine, name) : undefined
  if (!volume) {
    if (options.force) return
    throw new Fault('NOT_FOUND', `no volume "${name}"; \`berth volume ls\` lists them`)
  }
  using _lock = await lockFile(volumesLock(engine), { exclusive: true })
  const users = volumeUsers(engine, name)
  if (users.length > 0) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `the volume "${name}" is in use by container ${users.map((id) => id.slice(0, 12)).join(', ')}; remove that first`,
    )
  }
  // Out of sight first: a removal that is killed leaves debris, never half a volume.
  const doomed = `${engine.at.volumes}/${TEMPORARY}${randomBytes(6).toString('hex')}`
  renameSync(join(engine.at.volumes, name), doomed)
  await removeTree(doomed)
  emit(engine, { type: 'volume', action: 'destroy', id: name, name, attributes: {} })
}

/** Ids of the containers that have this volume. */
export function volumeUsers(engine: Engine, name: string): string[] {
  return containerIds(engine).filter((id) =>
    readRecord(engine, id)?.volumes.some((volume) => volume.name === name),
  )
}
