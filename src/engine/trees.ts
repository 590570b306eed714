import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { treeUsage } from '../layer/store.ts'

/** What a removal adds to a name. */
const TRASH = /\.[0-9a-f]{8}\.trash$/

/** Removes a tree that a container may have filled: by fd, so neither its depth nor its names matter. Nothing there is success. */
export async function removeTree(path: string): Promise<void> {
  const parent = openSync(dirname(path), 'r')
  const name = basename(path)
  // A new name each time, and no longer than the one before: that of a removal that was killed may still be there.
  const trash = `${name.replace(TRASH, '')}.${randomBytes(4).toString('hex')}.trash`
  try {
    await binding.removeTree(parent, name, parent, trash)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  } finally {
    closeSync(parent)
  }
}

/** Overlay options of every container, for a host may have it otherwise: what it changes is whole in its upper directory, so that it can be committed. */
export const WHOLE_CHANGES: readonly string[] = ['redirect_dir=off', 'metacopy=off']

/** Bytes on disk below a directory. */
export async function treeBytes(path: string): Promise<number> {
  try {
    return (await treeUsage(path)).bytes
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0
    throw error
  }
}

/**
 * Makes an overlay's work directory usable again after a mount that was `volatile`: overlayfs refuses it, since after a crash of the machine the upper
 * directory may be incomplete. Without one the upper directory is whole.
 */
export async function renewWork(work: string): Promise<void> {
  if (existsSync(join(work, 'work/incompat/volatile'))) await removeTree(work)
  // It is missing where a start was killed in between.
  mkdirSync(work, { recursive: true })
}
