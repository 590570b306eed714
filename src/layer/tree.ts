import { closeSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from '../kernel/constants.ts'
import { type ByteName, byteName, nameBytes, printable } from './bytes.ts'
import { isWhiteout } from './whiteout.ts'

/** A name as the addon's calls take it. */
export function kernelName(name: ByteName): string | Buffer {
  // ASCII is the same bytes either way and needs no buffer.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the range is all of ASCII.
  return /^[\x00-\x7f]*$/.test(name) ? name : nameBytes(name)
}

/** An open directory below a root. `path` is its real one, `/`-joined, '' for the root; the tree closes the fd. */
export interface Directory {
  readonly fd: number
  readonly path: string
}

export interface TreeOptions {
  readonly crossMounts: boolean
  readonly depthMax: number
  /** Makes a missing directory. */
  readonly make: (parent: Directory, name: ByteName) => void
  /** A whiteout in the way counts as nothing there. */
  readonly whiteoutsAreMissing: boolean
}

/** As Linux itself (path_resolution(7)). */
const LINKS_MAX = 40
/** Directories kept open between two entries. */
const OPEN_MAX = 128

/**
 * Finds directories below a root that nobody vouches for. Links are followed as a process chrooted there would follow them, but by this
 * code: each step opens one name in an open directory without following anything, so no link, `..` or rename can lead out.
 */
export class Tree {
  readonly #root: Directory
  readonly #options: TreeOptions
  readonly #resolve: number
  /** Oldest first. */
  readonly #open = new Map<string, Directory>()

  constructor(rootFd: number, options: TreeOptions) {
    this.#root = { fd: rootFd, path: '' }
    this.#options = options
    this.#resolve =
      RESOLVE_BENEATH |
      RESOLVE_NO_SYMLINKS |
      RESOLVE_NO_MAGICLINKS |
      (options.crossMounts ? 0 : RESOLVE_NO_XDEV)
  }

  static join(dir: Directory, name: ByteName): string {
    return dir.path === '' ? name : `${dir.path}/${name}`
  }

  /**
   * The directory at cleaned parts of a path. Missing ones are made with `create`; without, a missing one is undefined. The fd is good until
   * the next trim() or forget().
   */
  directory(parts: readonly ByteName[], options: { create: true }): Directory
  directory(parts: readonly ByteName[], options: { create: boolean }): Directory | undefined
  directory(parts: readonly ByteName[], options: { create: boolean }): Directory | undefined {
    const todo = [...parts].reverse()
    const stack = [this.#root]
    let links = 0
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === '' || name === '.') continue
      if (name === '..') {
        if (stack.length > 1) stack.pop()
        continue
      }
      const parent = stack.at(-1) ?? this.#root
      const found = this.#child(parent, name)
      if (stack.length > this.#options.depthMax) {
        throw new Fault(
          'RESOURCE_EXHAUSTED',
          `it lies more than ${this.#options.depthMax} directories deep`,
        )
      }
      if (typeof found === 'object') {
        stack.push(found)
      } else if (found === undefined) {
        if (!options.create) return undefined
        this.#options.make(parent, name)
        const made = this.#child(parent, name)
        if (typeof made !== 'object') {
          throw new Fault('FAILED_PRECONDITION', `${printable(name)} changes while it is used`)
        }
        stack.push(made)
      } else {
        if (++links > LINKS_MAX) {
          throw new Fault('INVALID_ARGUMENT', 'its directory is behind too many symbolic links')
        }
        if (found.startsWith('/')) stack.length = 1
        todo.push(...found.split('/').reverse())
      }
    }
    return stack.at(-1)
  }

  /** The open child directory, a link's target, or undefined for nothing there. */
  #child(parent: Directory, name: ByteName): Directory | string | undefined {
    const path = Tree.join(parent, name)
    const known = this.#open.get(path)
    if (known) {
      this.#open.delete(path)
      this.#open.set(path, known)
      return known
    }
    try {
      const flags = O_PATH | O_DIRECTORY | O_NOFOLLOW
      const fd = binding.openat2(parent.fd, kernelName(name), flags, 0, this.#resolve, true)
      if (fd < 0) return undefined
      const dir = { fd, path }
      this.#open.set(path, dir)
      return dir
    } catch (error) {
      if (isErrno(error, 'EXDEV')) {
        throw new Fault('INVALID_ARGUMENT', `${printable(path)} is a mount`, { cause: error })
      }
      if (!isErrno(error, 'ENOTDIR', 'ELOOP')) throw error
    }
    const there = binding.statx(parent.fd, kernelName(name), AT_SYMLINK_NOFOLLOW)
    if ((there.mode & S_IFMT) === S_IFLNK) {
      return byteName(binding.readlinkat(parent.fd, kernelName(name)))
    }
    if (this.#options.whiteoutsAreMissing && isWhiteout(there)) return undefined
    const reason =
      (there.mode & S_IFMT) === S_IFDIR ? 'changes while it is used' : 'is no directory'
    throw new Fault('INVALID_ARGUMENT', `${printable(path)} ${reason}`)
  }

  /** Closes what has not been used for long. */
  trim(): void {
    if (this.#open.size <= OPEN_MAX) return
    for (const [path, dir] of this.#open) {
      if (this.#open.size <= OPEN_MAX) return
      this.#open.delete(path)
      closeSync(dir.fd)
    }
  }

  /** A directory is gone: it and all below it must be looked up again. */
  forget(path: string): void {
    for (const [key, dir] of this.#open) {
      if (key !== path && !key.startsWith(`${path}/`)) continue
      this.#open.delete(key)
      closeSync(dir.fd)
    }
  }

  close(): void {
    for (const dir of this.#open.values()) closeSync(dir.fd)
    this.#open.clear()
  }
}
