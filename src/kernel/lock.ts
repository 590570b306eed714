import { constants, fstatSync, openSync, statSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { binding } from './binding.ts'
import { Fd } from './fd.ts'

/** Node opens close-on-exec by itself. */
const FLAGS = constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW

/**
 * A lock of a file, held until it is disposed or the process dies, however it dies. It belongs to the open file: two locks of one
 * process exclude each other as those of two processes do.
 */
export class FileLock {
  readonly #fd: Fd

  constructor(fd: Fd) {
    this.#fd = fd
  }

  /** May be called again. */
  release(): void {
    this.#fd.close()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

/**
 * Locks the file, making it (mode 0600) where it is missing, and waits as long as another holds it. The holder of an exclusive lock
 * may remove the file; those who waited for it then lock the new one.
 */
export async function lockFile(path: string, options: { exclusive: boolean }): Promise<FileLock> {
  for (;;) {
    const fd = new Fd(openSync(path, FLAGS, 0o600))
    try {
      await binding.flockWait(fd.number, options.exclusive)
      if (isStillAt(fd, path)) return new FileLock(fd)
    } catch (error) {
      fd.close()
      throw error
    }
    fd.close()
  }
}

/** The same without waiting: undefined where another holds it. */
export function tryLockFile(path: string, options: { exclusive: boolean }): FileLock | undefined {
  for (;;) {
    const fd = new Fd(openSync(path, FLAGS, 0o600))
    try {
      binding.flock(fd.number, options.exclusive)
      if (isStillAt(fd, path)) return new FileLock(fd)
    } catch (error) {
      fd.close()
      if (isErrno(error, 'EAGAIN')) return undefined
      throw error
    }
    fd.close()
  }
}

/** Between open and lock the last holder may have removed the file: then this lock excludes nobody. */
function isStillAt(fd: Fd, path: string): boolean {
  const mine = fstatSync(fd.number, { bigint: true })
  const there = statSync(path, { bigint: true, throwIfNoEntry: false })
  return there !== undefined && mine.ino === there.ino && mine.dev === there.dev
}
