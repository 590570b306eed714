import { closeSync, fstatSync, openSync } from 'node:fs'
import { binding } from './binding.ts'

interface Turn {
  readonly done: Promise<void>
  /** Of those who came too late for it: the one after. */
  next: Promise<void> | undefined
}

const turns = new Map<number, Turn>()

/**
 * What was written to the file system of `path` before the call is on the disk when it returns (syncfs(2)). Callers of this process share:
 * those who come while one is under way all get the next, so 50 layers that end together wait for two or three, not for 50.
 */
export async function syncTogether(path: string): Promise<void> {
  const fd = openSync(path, 'r')
  try {
    const { dev } = fstatSync(fd)
    const running = turns.get(dev)
    if (running === undefined) {
      await start(dev, fd)
      return
    }
    running.next ??= running.done.then(
      () => start(dev, fd),
      () => start(dev, fd),
    )
    await running.next
  } finally {
    closeSync(fd)
  }
}

/** The fd is its caller's, who waits for it. */
function start(dev: number, fd: number): Promise<void> {
  const done = binding.syncfs(fd)
  const turn: Turn = { done, next: undefined }
  turns.set(dev, turn)
  const end = (): void => {
    if (turns.get(dev) === turn) turns.delete(dev)
  }
  done.then(end, end)
  return done
}
