import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { TEMPORARY } from '../base/file.ts'
import { writeStream } from '../base/stream-file.ts'
import { directoriesOf, type SavedFile } from './save.ts'

/**
 * Writes the files as a folder that has its name only when it is whole. An empty one that is there makes room; ALREADY_EXISTS for any other: a
 * layout that holds images of before would be two things.
 */
export async function saveToFolder(path: string, files: readonly SavedFile[]): Promise<void> {
  if (!isFree(path)) {
    throw new Fault('ALREADY_EXISTS', `${path} is there and not empty; name a new folder`)
  }
  const temporary = `${path.replace(/\/+$/, '')}${TEMPORARY}${randomBytes(6).toString('hex')}`
  try {
    mkdirSync(temporary, { mode: 0o755 })
    for (const file of files) {
      for (const directory of directoriesOf(file.name)) {
        mkdirSync(join(temporary, directory), { recursive: true, mode: 0o755 })
      }
      await writeStream(join(temporary, file.name), file.chunks())
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    throw error
  }
}

function isFree(path: string): boolean {
  try {
    return readdirSync(path).length === 0
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true
    if (isErrno(error, 'ENOTDIR')) return false
    throw error
  }
}
