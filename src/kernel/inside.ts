import { readSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { binding, type Path } from './binding.ts'
import {
  AT_EMPTY_PATH,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDONLY,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  S_IFMT,
  S_IFREG,
} from './constants.ts'
import { Fd } from './fd.ts'

/** openat2(2) gives EAGAIN where a rename or mount anywhere on the host raced with a `..`; a storm of them must end somewhere. */
const ATTEMPTS_MAX = 128

/**
 * Opens a path as a process chrooted to `rootFd` would: absolute links and `..` stay below the root, and no magic link of a /proc
 * inside leads out. Errors are those of openat2(2).
 */
export function openInside(rootFd: number, path: Path, flags: number, mode = 0): Fd {
  for (let attempt = 1; ; attempt++) {
    try {
      return new Fd(
        binding.openat2(rootFd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS),
      )
    } catch (error) {
      if (!isErrno(error, 'EAGAIN') || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/**
 * A whole file of a root that nobody vouches for, or undefined where there is none. What is no regular file (a fifo would hang, a
 * device would act) is FAILED_PRECONDITION, more than `maxBytes` RESOURCE_EXHAUSTED, an endless one included.
 */
export function readFileInside(rootFd: number, path: string, maxBytes: number): Buffer | undefined {
  using file = openIfAny(rootFd, path)
  if (!file) return undefined
  const { mode, size } = binding.statx(file.number, '', AT_EMPTY_PATH)
  if ((mode & S_IFMT) !== S_IFREG) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot read ${path} of the container: not a regular file`,
    )
  }
  if (size > BigInt(maxBytes)) throw tooLarge(path, maxBytes)
  // The size may be a lie (a FUSE or /proc file); one byte more than allowed tells.
  const chunks: Buffer[] = []
  let total = 0
  for (;;) {
    const chunk = Buffer.allocUnsafe(Math.min(65536, maxBytes + 1 - total))
    const count = readSync(file.number, chunk, 0, chunk.length, null)
    if (count === 0) return Buffer.concat(chunks)
    total += count
    if (total > maxBytes) throw tooLarge(path, maxBytes)
    chunks.push(chunk.subarray(0, count))
  }
}

function tooLarge(path: string, maxBytes: number): Fault {
  return new Fault(
    'RESOURCE_EXHAUSTED',
    `cannot read ${path} of the container: it is larger than ${maxBytes} bytes`,
  )
}

function openIfAny(rootFd: number, path: string): Fd | undefined {
  try {
    return openInside(rootFd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    // A socket, or a device without a driver.
    if (isErrno(error, 'ENXIO', 'ENODEV')) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot read ${path} of the container: not a regular file`,
        { cause: error },
      )
    }
    throw error
  }
}
