import { closeSync, openSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFMT,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, byteName } from './bytes.ts'
import { kernelName } from './tree.ts'
import { isWhiteout, METACOPY, OPAQUE, REDIRECT } from './whiteout.ts'
import { isKeptXattr, packRows } from './xattr.ts'

export const RESOLVE_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

/** What an archive says of a node besides kind and content. */
export interface Attributes {
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: bigint
  readonly xattrs: ReadonlyMap<string, Buffer>
}

export type FileStatus = ReturnType<typeof binding.statx>

/** What one layer holds at a path. */
export interface Found {
  /** Undefined: nothing there. A whiteout is nothing, with `hidesBelow`. */
  readonly status: FileStatus | undefined
  /** Whether overlayfs looks no further down for this path. */
  readonly hidesBelow: boolean
}

export function isDirectory(status: { mode: number } | undefined): boolean {
  return status !== undefined && (status.mode & S_IFMT) === S_IFDIR
}

/** Directories of layers as overlayfs would stack them, topmost first, without a mount. */
export class Layers {
  readonly #roots: number[] = []

  constructor(paths: readonly string[]) {
    try {
      for (const path of paths) this.#roots.push(openSync(path, O_PATH | O_DIRECTORY))
    } catch (error) {
      this.close()
      throw error
    }
  }

  get count(): number {
    return this.#roots.length
  }

  close(): void {
    for (const fd of this.#roots) closeSync(fd)
    this.#roots.length = 0
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** What layer `index` holds at the path, looking at no other layer. */
  look(index: number, parts: readonly ByteName[]): Found {
    let hidesBelow = false
    let dir = this.#root(index)
    try {
      for (const [i, part] of parts.entries()) {
        const next = openChild(dir.number, part)
        if (!next) return { status: undefined, hidesBelow }
        dir.close()
        dir = next
        const status = binding.statx(dir.number, '', AT_EMPTY_PATH)
        if (!isDirectory(status)) {
          const isThere = i === parts.length - 1 && !isWhiteout(status)
          return { status: isThere ? status : undefined, hidesBelow: true }
        }
        if (isOpaque(dir.number)) hidesBelow = true
      }
      return { status: binding.statx(dir.number, '', AT_EMPTY_PATH), hidesBelow }
    } finally {
      dir.close()
    }
  }

  /** What all layers together show at the path. */
  merged(parts: readonly ByteName[]): FileStatus | undefined {
    for (let i = 0; i < this.count; i++) {
      const { status, hidesBelow } = this.look(i, parts)
      if (status) return status
      if (hidesBelow) return undefined
    }
    return undefined
  }

  /** What all layers together list in a directory. */
  names(parts: readonly ByteName[]): Set<ByteName> {
    const shown = new Set<ByteName>()
    const hidden = new Set<ByteName>()
    for (let i = 0; i < this.count; i++) {
      const { status, hidesBelow } = this.look(i, parts)
      if (status && !isDirectory(status)) break
      if (status) {
        using root = this.#root(i)
        const path = parts.length === 0 ? '.' : kernelName(parts.join('/'))
        const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
        using dir = new Fd(binding.openat2(root.number, path, flags, 0, RESOLVE_PLAIN))
        for (const { name } of binding.readdir(dir.number)) {
          const base = byteName(name)
          if (shown.has(base) || hidden.has(base)) continue
          const node = binding.statx(dir.number, kernelName(base), AT_SYMLINK_NOFOLLOW)
          ;(isWhiteout(node) ? hidden : shown).add(base)
        }
      }
      if (hidesBelow) break
    }
    return shown
  }

  /** Mode, owner, time and attributes of layer `index`'s directory at the path go to an open directory. */
  copyAttributes(index: number, parts: readonly ByteName[], targetFd: number): void {
    using root = this.#root(index)
    const path = parts.join('/')
    const flags = O_PATH | O_DIRECTORY | O_NOFOLLOW
    using dir = new Fd(
      binding.openat2(root.number, path === '' ? '.' : kernelName(path), flags, 0, RESOLVE_PLAIN),
    )
    const { mode, uid, gid, mtimeNs } = binding.statx(dir.number, '', AT_EMPTY_PATH)
    const xattrs = packRows(readXattrs(dir.number))
    binding.setAttributes(targetFd, '', mode & 0o7777, uid, gid, mtimeNs, xattrs)
  }

  /** The node of layer `index` at a path, O_PATH; it must be there. */
  open(index: number, parts: readonly ByteName[]): Fd {
    using root = this.#root(index)
    const path = parts.length === 0 ? '.' : kernelName(parts.join('/'))
    const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
    return new Fd(binding.openat2(root.number, path, O_PATH | O_NOFOLLOW, 0, resolve))
  }

  /** What all layers together show at the path, with all that can be said of it. */
  attributes(parts: readonly ByteName[]): (Attributes & { isDirectory: boolean }) | undefined {
    for (let i = 0; i < this.count; i++) {
      const { status, hidesBelow } = this.look(i, parts)
      if (status) {
        using node = this.open(i, parts)
        return { ...attributesOf(status, node.number), isDirectory: isDirectory(status) }
      }
      if (hidesBelow) return undefined
    }
    return undefined
  }

  #root(index: number): Fd {
    const fd = this.#roots[index]
    if (fd === undefined) throw new RangeError(`there is no layer ${index}`)
    return new Fd(binding.openat2(fd, '.', O_PATH | O_DIRECTORY, 0, RESOLVE_PLAIN))
  }
}

function openChild(dirFd: number, name: ByteName): Fd | undefined {
  try {
    // Without O_DIRECTORY, and O_NOFOLLOW instead of RESOLVE_NO_SYMLINKS: a link is opened itself.
    const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
    return new Fd(binding.openat2(dirFd, kernelName(name), O_PATH | O_NOFOLLOW, 0, resolve))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENAMETOOLONG')) return undefined
    throw error
  }
}

export function isOpaque(fd: number): boolean {
  try {
    return binding.fgetxattr(fd, OPAQUE).toString() === 'y'
  } catch (error) {
    if (isErrno(error, 'ENODATA', 'EOPNOTSUPP')) return false
    throw error
  }
}

/** Of an open file (or O_PATH). */
export function attributesOf(status: FileStatus, fd: number): Attributes {
  const { mode, uid, gid, mtimeNs } = status
  return { mode: mode & 0o7777, uid, gid, mtimeNs, xattrs: readXattrs(fd) }
}

/** Whether the content of a node of an upper directory is, wholly or in part, that of another path of a lower layer. */
export function holdsRedirect(fd: number): boolean {
  const names = xattrNames(fd)
  return names.includes(REDIRECT) || names.includes(METACOPY)
}

function xattrNames(fd: number): string[] {
  try {
    return binding.flistxattr(fd)
  } catch (error) {
    if (isErrno(error, 'EOPNOTSUPP')) return []
    throw error
  }
}

/** The extended attributes of an open file (or O_PATH) that travel with it. */
export function readXattrs(fd: number): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>()
  for (const name of xattrNames(fd)) {
    if (!isKeptXattr(name)) continue
    try {
      xattrs.set(name, binding.fgetxattr(fd, name))
    } catch (error) {
      // Removed meanwhile.
      if (!isErrno(error, 'ENODATA')) throw error
    }
  }
  return xattrs
}
