import {
  closeSync,
  constants,
  fstatSync,
  fsync as fsyncCallback,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { Fault, isErrno } from './fault.ts'

// Not of fs/promises, which takes some milliseconds to load.
const fsync = promisify(fsyncCallback)

/** The part of a temporary name that garbage collection looks for. */
export const TEMPORARY = '.tmp-'

/** Without O_TRUNC: of a file that was truncated, ext4 sends the new content to the disk when it is closed (auto_da_alloc). */
const PREPARED = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW

/** The file that a writeFileAtomic with `prepared` fills: where an empty one is there, to write is less work. */
export const preparedPath = (path: string): string => `${path}${TEMPORARY}prepared`

/** Nobody need not guess it, for what is there is not opened: node:crypto takes 3 ms to load. */
const unique = (): string => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER).toString(36)

/**
 * Writes a file so that a reader, now or after `kill -9`, sees the old content or the new one and never a part.
 * With `durable` it is also on the disk when this returns, file and name; with 'content' the name is left to its caller's syncDirectory. With `prepared` nobody else may be writing it: a `preparedPath` is taken where
 * it is there.
 */
export function writeFileAtomic(
  path: string,
  content: string | Uint8Array,
  options: { mode?: number; durable?: boolean | 'content'; prepared?: boolean } = {},
): void {
  const temporary = options.prepared
    ? preparedPath(path)
    : `${path}${TEMPORARY}${process.pid}-${unique()}`
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  try {
    const fd = openSync(temporary, options.prepared ? PREPARED : 'wx', options.mode ?? 0o600)
    try {
      // Of a write that was killed.
      if (options.prepared && fstatSync(fd).size > 0) ftruncateSync(fd)
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done)
      if (options.durable) fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    // A failed write, of a full disk, says nothing of the place.
    if (error instanceof Error && !error.message.includes(path)) error.message += ` '${path}'`
    throw error
  }
  if (options.durable === true) syncDirectory(dirname(path))
}

/** As syncDirectory, while others go on. */
export async function syncDirectoryAside(path: string): Promise<void> {
  // To open it is nothing to wait for.
  const fd = openSync(path, 'r')
  try {
    await fsync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Puts a directory's entries on the disk: what a rename or unlink needs to survive a power cut. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** A directory for root alone, and what is missing above it. Most often it is there, and to look takes half of what to try does. */
export function ensureDirectory(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/** Removes a file, where it is there. */
export function removeFile(path: string): void {
  // An exception costs as much as twenty of these, and rmSync takes three calls.
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

/** Removes a directory with the files and the empty directories in it; says whether it is gone: what is more, or cannot be removed so, is left. */
export function removeShallow(directory: string): boolean {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name)
      if (entry.isDirectory()) rmdirSync(path)
      else unlinkSync(path)
    }
    rmdirSync(directory)
    return true
  } catch (error) {
    // Whoever removes more than this finds out what is wrong with it.
    if (!isErrno(error, 'ENOENT')) return false
    return lstatSync(directory, { throwIfNoEntry: false }) === undefined
  }
}

/** What a directory holds; nothing where there is none. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** A text file's content, or undefined where there is none. */
export function readFileIfAny(path: string): string | undefined {
  // An exception costs as much as twenty of these. What else than "no such file" is wrong is thrown here too.
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    // ENODEV: a cgroup that is removed between open and read.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ENODEV')) return undefined
    throw error
  }
}

/** A JSON file's value, or undefined where there is no file. Damaged content is DATA_LOSS and names the file. */
export function readJsonIfAny(path: string): unknown {
  const text = readFileIfAny(path)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Fault('DATA_LOSS', `${path} is damaged: it holds no valid JSON`, { cause: error })
  }
}
