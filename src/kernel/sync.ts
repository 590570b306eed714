import { closeSync, fstatSync, openSync } from 'node:fs'
import { syncDirectoryAside } from '../base/file.ts'
import { binding } from './binding.ts'

interface Turn {
  readonly done: Promise<void>
  /** Whoever comes later may have written what it leaves out. */
  hasBegun: boolean
  /** Of those who came too late for it: the one after. */
  next: Promise<void> | undefined
}

/** By what is synced: a device's number, or a directory's path. */
const turns = new Map<number | string, Turn>()

/**
 * What was written to the file system of `path` before the call is on the disk when it returns (syncfs(2)). Callers of this process share:
 * those who come in one turn of the event loop get one, those who come while one is under way all get the next.
 */
export async function syncTogether(path: string): Promise<void> {
  // The fd is its caller's, who waits for it.
  const fd = openSync(path, 'r')
  try {
    await shared(fstatSync(fd).dev, () => binding.syncfs(fd))
  } finally {
    closeSync(fd)
  }
}

/** The entries of a directory that were there before the call are on the disk when it returns (fsync(2)); shared likewise. */
export function syncDirectoryTogether(path: string): Promise<void> {
  return shared(path, () => syncDirectoryAside(path))
}

function shared(key: number | string, sync: () => Promise<void>): Promise<void> {
  const running = turns.get(key)
  if (running === undefined) return start(key, sync)
  if (!running.hasBegun) return running.done
  const next = (): Promise<void> => start(key, sync)
  running.next ??= running.done.then(next, next)
  return running.next
}

function start(key: number | string, sync: () => Promise<void>): Promise<void> {
  const begin = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve))
    turn.hasBegun = true
    await sync()
  }
  const turn: Turn = { done: begin(), hasBegun: false, next: undefined }
  turns.set(key, turn)
  const end = (): void => {
    if (turns.get(key) === turn) turns.delete(key)
  }
  turn.done.then(end, end)
  return turn.done
}
