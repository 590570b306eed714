import { constants, fstatSync, lstatSync, openSync, statSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { binding } from './binding.ts'
import { Fd } from './fd.ts'

/** Read and appended to by a holder to whom the file itself is of use. Node opens close-on-exec by itself. */
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW

/**
 * An flock(2) of a file, held until it is disposed or the process dies, however it dies. It belongs to the open file: two locks of one
 * process exclude each other as those of two processes do.
 */
export class FileLock {
  readonly #fd: Fd

  constructor(fd: Fd) {
    this.#fd = fd
  }

  /** The locked file's, while the lock is held. */
  get fd(): number {
    return this.#fd.number
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
 * Locks the file, making it (mode 0600) where it is missing, and waits as long as another holds it; an abort ends the waiting at once with the
 * signal's reason. The holder of an exclusive lock may rename or remove the file; those who waited for it then lock the new one.
 */
export async function lockFile(
  path: string,
  options: { exclusive: boolean; signal?: AbortSignal | undefined },
): Promise<FileLock> {
  for (;;) {
    options.signal?.throwIfAborted()
    const fd = new Fd(openSync(path, FLAGS, 0o600))
    await waitForLock(fd, options.exclusive, options.signal)
    const lock = keep(fd, path)
    if (lock) return lock
  }
}

/** The same without waiting: undefined where another holds it. */
export function tryLockFile(path: string, options: { exclusive: boolean }): FileLock | undefined {
  for (;;) {
    const fd = new Fd(openSync(path, FLAGS, 0o600))
    try {
      if (!tryLock(fd, options.exclusive)) {
        fd.close()
        return undefined
      }
    } catch (error) {
      fd.close()
      throw error
    }
    const lock = keep(fd, path)
    if (lock) return lock
  }
}

/** Whether somebody has the file locked for himself; of a file that is not there nobody has. It is asked by a shared lock, so those who ask at once do not see each other. */
export function isLocked(path: string): boolean {
  let file: number
  try {
    // An exception costs as much as twenty of these.
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return false
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
  using fd = new Fd(file)
  return !tryLock(fd, false)
}

function tryLock(fd: Fd, exclusive: boolean): boolean {
  try {
    binding.flock(fd.number, exclusive)
    return true
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return false
    throw error
  }
}

/** Closes the fd where it fails. */
async function waitForLock(
  fd: Fd,
  exclusive: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  const close = () => fd.close()
  let waiting: Promise<void> | undefined
  const { promise: aborted, reject } = withReject()
  const abort = () => reject(signal?.reason)
  try {
    if (tryLock(fd, exclusive)) return
    waiting = binding.flockWait(fd.number, exclusive)
    signal?.addEventListener('abort', abort, { once: true })
    await Promise.race([waiting, aborted])
  } catch (error) {
    // flock(2) cannot be called off from outside: the waiting thread ends when it gets the lock, and the fd is needed until then.
    if (waiting) waiting.then(close, close)
    else close()
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

function withReject(): { promise: Promise<never>; reject: (reason: unknown) => void } {
  let reject: (reason: unknown) => void = () => {}
  const promise = new Promise<never>((_, fail) => {
    reject = fail
  })
  return { promise, reject }
}

/** The lock, or its fd closed. */
function keep(fd: Fd, path: string): FileLock | undefined {
  let isHeld = false
  try {
    isHeld = isStillAt(fd, path)
  } finally {
    if (!isHeld) fd.close()
  }
  return isHeld ? new FileLock(fd) : undefined
}

/** Between open and lock the last holder may have removed the file: then this lock excludes nobody. */
function isStillAt(fd: Fd, path: string): boolean {
  const mine = fstatSync(fd.number, { bigint: true })
  const there = statSync(path, { bigint: true, throwIfNoEntry: false })
  return there !== undefined && mine.ino === there.ino && mine.dev === there.dev
}
