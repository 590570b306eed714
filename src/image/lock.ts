import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'

/**
 * An flock(2) on a file, held until `release`. The kernel drops it with the process, so no lock outlives its owner and none is
 * ever stale. Two locks of one process exclude each other as those of two processes do.
 */
export class FileLock {
  readonly fd: number
  #held = true

  constructor(fd: number) {
    this.fd = fd
  }

  /** Idempotent. */
  release(): void {
    if (!this.#held) return
    this.#held = false
    // Closing the only descriptor of the open file drops the lock.
    closeSync(this.fd)
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

/** Read and write, made where missing, never through a symbolic link. Also Node opens close-on-exec. */
export function openLockable(path: string): number {
  return openSync(path, 'a+', 0o600)
}

/** Whether the open file still bears this name: its owner may have renamed or removed it while we waited for the lock. */
function isStill(fd: number, path: string): boolean {
  try {
    const a = fstatSync(fd)
    const b = statSync(path)
    return a.ino === b.ino && a.dev === b.dev
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** Waits for the lock. An abort ends the waiting at once with the signal's reason. */
export async function lockFile(
  path: string,
  options: { exclusive: boolean; signal?: AbortSignal | undefined },
): Promise<FileLock> {
  for (;;) {
    options.signal?.throwIfAborted()
    const fd = openLockable(path)
    try {
      await waitForLock(fd, options.exclusive, options.signal)
    } catch (error) {
      // An abandoned wait closes the descriptor itself, when the kernel lets go of it.
      if (!(error instanceof Abandoned)) closeSync(fd)
      throw error instanceof Abandoned ? error.reason : error
    }
    if (isStill(fd, path)) return new FileLock(fd)
    closeSync(fd)
  }
}

/** The lock, or undefined where somebody holds it. */
export function tryLockFile(path: string, options: { exclusive: boolean }): FileLock | undefined {
  for (;;) {
    const fd = openLockable(path)
    try {
      binding.flock(fd, options.exclusive)
    } catch (error) {
      closeSync(fd)
      if (isErrno(error, 'EWOULDBLOCK', 'EAGAIN')) return undefined
      throw error
    }
    if (isStill(fd, path)) return new FileLock(fd)
    closeSync(fd)
  }
}

class Abandoned {
  readonly reason: unknown
  constructor(reason: unknown) {
    this.reason = reason
  }
}

async function waitForLock(
  fd: number,
  exclusive: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    binding.flock(fd, exclusive)
    return
  } catch (error) {
    if (!isErrno(error, 'EWOULDBLOCK', 'EAGAIN')) throw error
  }
  const waiting = binding.flockWait(fd, exclusive)
  if (signal === undefined) return waiting
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new Abandoned(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    await Promise.race([waiting, aborted])
  } catch (error) {
    if (error instanceof Abandoned) {
      // flock(2) cannot be called off from outside: the waiting thread ends when it gets the lock.
      waiting.then(
        () => closeSync(fd),
        () => closeSync(fd),
      )
    }
    throw error
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
