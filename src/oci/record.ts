import { existsSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny, writeFileAtomic } from '../base/file.ts'
import { binding } from '../kernel/binding.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type FileLock, lockFile } from '../kernel/lock.ts'
import type { Spec } from '../spec/runtime.ts'
import { readDocument } from './config.ts'

/** NAME_MAX of the kernel, less what a directory on its way out has behind it. */
const ID_BYTES_MAX = 240
/** A directory that is on its way out. No id begins so. */
const TRASH = '.trash-'

/** What is on disk about a container: ROOT/ID/record.json. Its state is derived (status.ts). */
export interface OciRecord {
  readonly id: string
  readonly ociVersion: string
  readonly bundle: string
  readonly rootfs: string
  /** RFC 3339, UTC. */
  readonly created: string
  readonly annotations: Readonly<Record<string, string>>
  /** Its directory on the host; known before it is made. */
  readonly cgroup: string
  /** Its inode, once it is made: an ended container's may have been removed, and another one have taken the path. */
  readonly cgroupInode?: string
  /** The first process and when it began (status.ts); missing until it is made. */
  readonly pid?: number
  readonly startTime?: string
  /** Starting, killing and deleting it is no more than native/front/direct.cc does (plain.ts). */
  readonly plain?: true
}

/** The paths of one container, below `--root`. */
export interface Place {
  readonly id: string
  readonly directory: string
  readonly record: string
  readonly config: string
  readonly lock: string
  /** Where the root of a container without a mount namespace is mounted. */
  readonly root: string
  /** The socket at which the container waits for its start. */
  readonly start: string
}

/** The characters of an id are those that runc takes. */
export function placeOf(root: string, id: string): Place {
  const good = /^[A-Za-z0-9_+-][A-Za-z0-9_+.-]*$/.test(id) && id.length <= ID_BYTES_MAX
  if (!good) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `invalid container id ${JSON.stringify(id.slice(0, 80))}: at most ${ID_BYTES_MAX} of A-Z a-z 0-9 _ + - . and no dot at its beginning`,
    )
  }
  const directory = join(root, id)
  return {
    id,
    directory,
    record: join(directory, 'record.json'),
    config: join(directory, 'config.json'),
    lock: join(directory, 'lock'),
    root: join(directory, 'root'),
    start: join(directory, 'start'),
  }
}

/** Takes the id: its directory and lock. ALREADY_EXISTS where another has it. */
export async function claim(root: string, place: Place): Promise<FileLock> {
  mkdirSync(root, { recursive: true, mode: 0o700 })
  try {
    mkdirSync(place.directory, { mode: 0o700 })
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
    throw new Fault('ALREADY_EXISTS', `container with given ID already exists: ${place.id}`, {
      cause: error,
    })
  }
  return await lockFile(place.lock, { exclusive: true })
}

/** NOT_FOUND, in the words that engines look for, where there is no such container. */
export async function lockContainer(place: Place): Promise<FileLock> {
  try {
    return await lockFile(place.lock, { exclusive: true })
  } catch (error) {
    if (isErrno(error, 'ENOENT')) throw notThere(place.id)
    throw error
  }
}

function notThere(id: string): Fault {
  return new Fault('NOT_FOUND', `container does not exist: ${id}`)
}

export function writeRecord(place: Place, record: OciRecord): void {
  writeFileAtomic(place.record, JSON.stringify(record))
}

export function readRecord(place: Place): OciRecord {
  const record = readRecordIfAny(place)
  if (!record) throw notThere(place.id)
  return record
}

export function readRecordIfAny(place: Place): OciRecord | undefined {
  return readJsonIfAny(place.record) as OciRecord | undefined
}

/** The configuration as it was at the creation: later changes in the bundle count for nothing. */
export function readKeptConfig(place: Place): Spec {
  return readDocument(place.config) as Spec
}

/** Gone at once, whatever a kill leaves of it: `trashOf` finds that. */
export function removePlace(root: string, place: Place): void {
  unmountRoot(place)
  let directory: Fd
  try {
    directory = new Fd(openSync(root, O_RDONLY | O_DIRECTORY))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  using at = directory
  const trash = `${TRASH}${place.id}-${process.pid}`
  try {
    binding.removeTreeNow(at.number, place.id, at.number, trash)
  } catch (error) {
    // The emptyTrash of another command was quicker.
    if (!isErrno(error, 'ENOENT') || existsSync(place.directory)) throw error
  }
}

/**
 * Takes off what is mounted there, with all below it: whatever of it has been made. Nothing else is mounted in a directory of ours, and where that cannot be
 * done the directory stays: what it shows would be removed with it.
 */
function unmountRoot({ root }: Place): void {
  if (!existsSync(root)) return
  try {
    // The container's root, and the mount below that (native/init/root.cc).
    for (;;) binding.unmount(root, true)
  } catch (error) {
    // Nothing more is mounted at it.
    if (!isErrno(error, 'EINVAL')) throw error
  }
}

/** The ids of a root, sorted. */
export function idsOf(root: string): string[] {
  try {
    return readdirSync(root)
      .filter((name) => !name.startsWith('.'))
      .sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

/** Takes away what killed removals have left; not what another process is just removing. */
export function emptyTrash(root: string): void {
  if (!existsSync(root)) return
  for (const name of readdirSync(root)) {
    if (!name.startsWith(TRASH) || existsSync(`/proc/${name.slice(name.lastIndexOf('-') + 1)}`))
      continue
    rmSync(join(root, name), { recursive: true, force: true })
  }
}
