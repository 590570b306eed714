import { mkdirSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, isErrno } from '../base/fault.ts'
import { namesIn } from '../base/file.ts'
import { removeTree } from '../engine/trees.ts'
import type { Node } from './node.ts'

/** Trees that are removed at once: more wait, so that a client cannot make them faster than they go. */
const REMOVALS_MAX = 16

/** Takes a tree out of the way; where that fails it stays, and its own path is returned. */
function moved({ at }: Node, path: string): string {
  const trash = join(at.trash, basename(path))
  for (const isSecond of [false, true]) {
    try {
      renameSync(path, trash)
      return trash
    } catch (error) {
      // Nobody has removed one yet, or somebody has tidied up.
      if (isSecond || !isErrno(error, 'ENOENT')) return path
      try {
        mkdirSync(at.trash, { mode: 0o700 })
      } catch {
        return path
      }
    }
  }
  return path
}

/**
 * Removes a tree while the next calls are at work: its name is gone, or the promise in `pending` says when. Where this fails it is tried again by the next daemon,
 * as after a kill; the daemon's end waits for it.
 */
export async function discard(
  node: Node,
  path: string,
  pending: Set<Promise<void>>,
  done = (): void => {},
): Promise<void> {
  while (node.removals.size >= REMOVALS_MAX) await Promise.race(node.removals)
  const removal = removed(node, moved(node, path)).finally(() => {
    pending.delete(removal)
    node.removals.delete(removal)
    done()
  })
  pending.add(removal)
  node.removals.add(removal)
}

/** What removals that were killed or have failed have left: one after the other, for nobody knows how many they are, and calls are not to wait for them. */
export function emptyTrash(node: Node): void {
  const names = namesIn(node.at.trash)
  if (names.length === 0) return
  const removal = removedAll(
    node,
    names.map((name) => join(node.at.trash, name)),
  ).finally(() => node.removals.delete(removal))
  node.removals.add(removal)
}

async function removedAll(node: Node, paths: readonly string[]): Promise<void> {
  for (const path of paths) await removed(node, path)
}

async function removed(node: Node, path: string): Promise<void> {
  try {
    await removeTree(path)
  } catch (error) {
    node.warn(`the files of a removed container are not gone yet: ${describe(error)}`)
  }
}
