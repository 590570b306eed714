import { ftruncateSync, writeSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_SYMLINK_NOFOLLOW,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, cleanPath, printable } from './bytes.ts'
import type { LayerLimits } from './limits.ts'
import type { TarEntry, TarSink } from './tar-reader.ts'
import { type Directory, kernelName, Tree } from './tree.ts'
import { isWhiteout, OPAQUE, OPAQUE_ROW, OPAQUE_VALUE, whiteoutOf } from './whiteout.ts'
import { packXattrs } from './xattr.ts'

export interface TreeWriterOptions {
  /** 'layer': whiteouts become what overlayfs takes for them. 'plain': they are files like others. */
  readonly format: 'layer' | 'plain'
  readonly limits: LayerLimits
  /**
   * An empty directory on the same file system, outside the tree: a directory that an entry of another kind replaces goes there to be
   * removed. Without it such an entry is refused.
   */
  readonly trashFd?: number | undefined
  /** The owner of everything, instead of what the archive says. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined
  /** Other names for paths (and targets of hard links); undefined drops an entry. */
  readonly rename?: ((path: ByteName) => ByteName | undefined) | undefined
  /** Enters mounts below the root: a running container's volumes. */
  readonly crossMounts?: boolean | undefined
}

/** Directories of a layer that exist only because of something in them, `/`-joined; '' is the root. */
export interface TreeSummary {
  readonly implicit: readonly ByteName[]
  /** The layer hides all below it (`.wh..wh..opq` at its top). */
  readonly rootOpaque: boolean
}

/** Files up to this size are collected, then made in one call. */
const SMALL_FILE_BYTES = 256 * 1024

/** Zeros from this length on are left out of a file: most tools pack sparse files as if they were full. */
const HOLE_BYTES = 4096
const ZEROS = Buffer.alloc(64 * 1024)

interface OpenFile {
  readonly entry: TarEntry
  readonly dir: Directory
  readonly base: ByteName
  readonly parts: Buffer[]
  held: number
  fd: Fd | undefined
  /** Where the next byte of content belongs, and in which piece of a sparse file that is. */
  offset: number
  piece: number
  pieceDone: number
}

/**
 * Puts a tar archive's entries into a directory tree. A later entry wins over an earlier one; nothing outside the root is read or written,
 * whatever links the archive or the tree holds.
 */
export class TreeWriter implements TarSink {
  readonly #tree: Tree
  readonly #options: TreeWriterOptions
  #file: OpenFile | undefined
  /** Times of directories, set last: every entry made in one changes them. By the directory's real path. */
  readonly #times = new Map<string, bigint>()
  readonly #implicit = new Set<string>()
  #rootOpaque = false

  constructor(rootFd: number, options: TreeWriterOptions) {
    this.#options = options
    this.#tree = new Tree(rootFd, {
      crossMounts: options.crossMounts === true,
      depthMax: options.limits.depth,
      make: (parent, name) => this.#makeImplicit(parent, name),
      whiteoutsAreMissing: options.format === 'layer',
    })
    this.#implicit.add('')
  }

  /** Forgets open files and directories; also after an error. */
  close(): void {
    this.#file?.fd?.close()
    this.#file = undefined
    this.#tree.close()
  }

  entry(entry: TarEntry): void {
    this.#tree.trim()
    const path = this.#renamed(entry.path)
    if (path === undefined) return
    try {
      this.#apply(entry, path)
    } catch (error) {
      throw explain(error, entry)
    }
  }

  #renamed(path: ByteName): ByteName | undefined {
    return this.#options.rename ? this.#options.rename(path) : path
  }

  #apply(entry: TarEntry, path: ByteName): void {
    const { parts, escapes } = cleanPath(path)
    const base = parts.at(-1)
    if (base === undefined) {
      this.#applyRoot(entry)
      return
    }
    if (this.#options.format === 'layer') {
      const whiteout = whiteoutOf(parts, escapes)
      if (whiteout === 'ignored') return
      if (whiteout !== undefined) {
        this.#applyWhiteout(parts.slice(0, -1), whiteout)
        return
      }
    }
    // A hard link's target is looked at first: what replaces an old entry must not take it away and then fail.
    const target = entry.kind === 'hardlink' ? this.#linkTarget(entry) : undefined
    const dir = this.#tree.directory(parts.slice(0, -1), { create: true })
    switch (entry.kind) {
      case 'file':
        this.#startFile(entry, dir, base)
        return
      case 'directory':
        this.#makeDirectory(entry, dir, base)
        return
      case 'symlink':
        if (entry.link === '') throw new Fault('DATA_LOSS', 'a symbolic link has no target')
        this.#replace(dir, base, () =>
          binding.symlinkat(kernelName(entry.link), dir.fd, kernelName(base)),
        )
        this.#setAttributes(entry, dir, base)
        return
      case 'hardlink':
        if (target) this.#makeLink(target, dir, base)
        return
      default:
        this.#makeNode(entry, dir, base)
        return
    }
  }

  data(chunk: Buffer): void {
    const file = this.#file
    if (!file) return
    try {
      if (file.fd) this.#write(file, file.fd.number, chunk)
      else this.#collect(file, chunk)
    } catch (error) {
      throw explain(error, file.entry)
    }
  }

  end(): void {
    const file = this.#file
    this.#file = undefined
    if (!file) return
    try {
      if (!file.fd) {
        if (file.entry.dataSize === 0) this.#createWhole(file, Buffer.alloc(0))
        return
      }
      const { mode, uid, gid, mtimeNs } = this.#owned(file.entry)
      binding.setAttributes(file.fd.number, '', mode, uid, gid, mtimeNs, packXattrs(file.entry))
    } catch (error) {
      throw explain(error, file.entry)
    } finally {
      file.fd?.close()
    }
  }

  /** All entries are there: sets the directories' times. */
  finish(): TreeSummary {
    for (const [path, mtimeNs] of this.#times) {
      this.#tree.trim()
      const dir = this.#tree.directory(path === '' ? [] : path.split('/'), { create: false })
      if (dir) binding.setAttributes(dir.fd, '', -1, -1, -1, mtimeNs, undefined)
    }
    return { implicit: [...this.#implicit], rootOpaque: this.#rootOpaque }
  }

  #owned(entry: TarEntry): { mode: number; uid: number; gid: number; mtimeNs: bigint } {
    const { uid, gid } = this.#options.owner ?? entry
    // (uid_t) -1 would mean "unchanged" to chown: root's.
    if (uid < 0 || uid >= 0xffff_ffff || gid < 0 || gid >= 0xffff_ffff) {
      throw new Fault('DATA_LOSS', 'its owner is no user id')
    }
    return { mode: entry.mode, uid, gid, mtimeNs: entry.mtimeNs }
  }

  #setAttributes(entry: TarEntry, dir: Directory, base: ByteName): void {
    const { mode, uid, gid, mtimeNs } = this.#owned(entry)
    const isLink = entry.kind === 'symlink'
    const isDirectory = entry.kind === 'directory'
    binding.setAttributes(
      dir.fd,
      kernelName(base),
      isLink ? -1 : mode,
      uid,
      gid,
      isDirectory ? undefined : mtimeNs,
      packXattrs(entry),
    )
  }

  #applyRoot(entry: TarEntry): void {
    if (entry.kind !== 'directory') {
      throw new Fault('INVALID_ARGUMENT', 'it would replace the root itself')
    }
    const { mode, uid, gid, mtimeNs } = this.#owned(entry)
    const dir = this.#tree.directory([], { create: true })
    binding.setAttributes(dir.fd, '', mode, uid, gid, undefined, packXattrs(entry))
    this.#times.set('', mtimeNs)
    this.#implicit.delete('')
  }

  /** Runs `make`; where the name is taken, removes what is there and runs it again. */
  #replace<T>(dir: Directory, base: ByteName, make: () => T): T {
    try {
      return make()
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
    }
    this.#remove(dir, base)
    return make()
  }

  #remove(dir: Directory, base: ByteName): void {
    const name = kernelName(base)
    const { mode } = binding.statx(dir.fd, name, AT_SYMLINK_NOFOLLOW)
    if ((mode & S_IFMT) !== S_IFDIR) {
      binding.unlinkat(dir.fd, name, 0)
      return
    }
    const { trashFd } = this.#options
    if (trashFd === undefined) {
      throw new Fault('FAILED_PRECONDITION', 'a directory is in its place')
    }
    binding.removeTreeNow(dir.fd, name, trashFd, 'replaced')
    const path = Tree.join(dir, base)
    this.#tree.forget(path)
    for (const map of [this.#times, this.#implicit]) {
      for (const key of map.keys()) if (key === path || key.startsWith(`${path}/`)) map.delete(key)
    }
  }

  #makeDirectory(entry: TarEntry, dir: Directory, base: ByteName): void {
    const path = Tree.join(dir, base)
    const name = kernelName(base)
    let hidesLower = false
    try {
      binding.mkdirat(dir.fd, name, 0o700)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      const there = binding.statx(dir.fd, name, AT_SYMLINK_NOFOLLOW)
      if ((there.mode & S_IFMT) !== S_IFDIR) {
        hidesLower = this.#options.format === 'layer' && isWhiteout(there)
        this.#remove(dir, base)
        binding.mkdirat(dir.fd, name, 0o700)
      }
    }
    this.#setAttributes(entry, dir, base)
    if (hidesLower) this.#makeOpaque(dir, base)
    this.#times.set(path, entry.mtimeNs)
    this.#implicit.delete(path)
  }

  /** A directory that no entry names: root's, 0755, as docker and containerd make it. */
  #makeImplicit(dir: Directory, base: ByteName): void {
    const name = kernelName(base)
    const make = (): void => binding.mkdirat(dir.fd, name, 0o755)
    let hidesLower = false
    try {
      make()
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      // Only a whiteout is taken for missing: the path comes back in the layer that removed it.
      hidesLower = true
      binding.unlinkat(dir.fd, name, 0)
      make()
    }
    const { uid, gid } = this.#options.owner ?? { uid: 0, gid: 0 }
    // mkdir's mode went through the umask.
    binding.setAttributes(dir.fd, name, 0o755, uid, gid, undefined, undefined)
    if (hidesLower) this.#makeOpaque(dir, base)
    this.#implicit.add(Tree.join(dir, base))
  }

  #makeOpaque(dir: Directory, base: ByteName): void {
    binding.setAttributes(dir.fd, kernelName(base), -1, -1, -1, undefined, OPAQUE_ROW)
  }

  #applyWhiteout(parent: readonly ByteName[], hidden: ByteName | typeof OPAQUE): void {
    const dir = this.#tree.directory(parent, { create: true })
    if (hidden === OPAQUE) {
      // overlayfs looks at no mark on the root of a layer: the chain ends there instead.
      if (dir.path === '') this.#rootOpaque = true
      else binding.fsetxattr(dir.fd, OPAQUE, OPAQUE_VALUE, 0)
      return
    }
    const name = kernelName(hidden)
    try {
      binding.mknodat(dir.fd, name, S_IFCHR, 0, 0)
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      // image-spec, "Whiteouts": they hide what is in lower layers, never what this one brings.
      const { mode } = binding.statx(dir.fd, name, AT_SYMLINK_NOFOLLOW)
      if ((mode & S_IFMT) === S_IFDIR) this.#makeOpaque(dir, hidden)
    }
  }

  #linkTarget(entry: TarEntry): { dir: Directory; base: ByteName } {
    const renamed = this.#renamed(entry.link)
    const { parts, escapes } = cleanPath(renamed ?? '')
    const base = parts.at(-1)
    if (renamed === undefined || escapes || base === undefined) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `its target "${printable(entry.link)}" is outside the archive`,
      )
    }
    const missing = (): Fault =>
      new Fault(
        'INVALID_ARGUMENT',
        `its target "${printable(entry.link)}" is no file of the same archive`,
      )
    const dir = this.#tree.directory(parts.slice(0, -1), { create: false })
    if (!dir) throw missing()
    let there: { mode: number; rdevMajor: number; rdevMinor: number }
    try {
      there = binding.statx(dir.fd, kernelName(base), AT_SYMLINK_NOFOLLOW)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw missing()
      throw error
    }
    if ((there.mode & S_IFMT) === S_IFDIR || isWhiteout(there)) throw missing()
    return { dir, base }
  }

  #makeLink(target: { dir: Directory; base: ByteName }, dir: Directory, base: ByteName): void {
    if (Tree.join(target.dir, target.base) === Tree.join(dir, base)) {
      throw new Fault('INVALID_ARGUMENT', 'it is a hard link to itself')
    }
    // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one more name of it.
    this.#replace(dir, base, () =>
      binding.linkat(target.dir.fd, kernelName(target.base), dir.fd, kernelName(base), 0),
    )
  }

  #makeNode(entry: TarEntry, dir: Directory, base: ByteName): void {
    const type = entry.kind === 'fifo' ? S_IFIFO : entry.kind === 'character' ? S_IFCHR : S_IFBLK
    if (entry.major < 0 || entry.minor < 0 || entry.major > 0xfff || entry.minor > 0xfffff) {
      throw new Fault('DATA_LOSS', 'its device number is out of range')
    }
    const [major, minor] = entry.kind === 'fifo' ? [0, 0] : [entry.major, entry.minor]
    if (type === S_IFCHR && major === 0 && minor === 0) {
      throw new Fault(
        'INVALID_ARGUMENT',
        'it is the character device 0:0, which hides files from overlayfs',
      )
    }
    try {
      this.#replace(dir, base, () =>
        binding.mknodat(dir.fd, kernelName(base), type | 0o600, major, minor),
      )
    } catch (error) {
      if (!isErrno(error, 'EPERM')) throw error
      throw new Fault('PERMISSION_DENIED', 'making device nodes is not allowed here', {
        cause: error,
      })
    }
    this.#setAttributes(entry, dir, base)
  }

  #startFile(entry: TarEntry, dir: Directory, base: ByteName): void {
    this.#file = {
      entry,
      dir,
      base,
      parts: [],
      held: 0,
      fd: undefined,
      offset: entry.sparse?.[0]?.offset ?? 0,
      piece: 0,
      pieceDone: 0,
    }
    if (entry.sparse === undefined && entry.dataSize <= SMALL_FILE_BYTES) return
    const fd = this.#replace(dir, base, () =>
      binding.createFile(dir.fd, kernelName(base), -1, -1, -1, undefined, undefined, undefined),
    )
    this.#file.fd = new Fd(fd)
    // Its whole length at once: what is not written then is a hole, of a sparse entry and of one that is full of zeros.
    ftruncateSync(fd, entry.sparse === undefined ? entry.dataSize : entry.size)
  }

  #collect(file: OpenFile, chunk: Buffer): void {
    file.held += chunk.length
    const isWhole = file.held === file.entry.dataSize
    if (!isWhole) {
      // Copied: the reader only lends its chunks.
      file.parts.push(Buffer.from(chunk))
      return
    }
    this.#createWhole(file, file.parts.length === 0 ? chunk : Buffer.concat([...file.parts, chunk]))
  }

  #createWhole(file: OpenFile, content: Buffer): void {
    const { entry, dir, base } = file
    const { mode, uid, gid, mtimeNs } = this.#owned(entry)
    const xattrs = packXattrs(entry)
    this.#replace(dir, base, () =>
      binding.createFile(dir.fd, kernelName(base), mode, uid, gid, mtimeNs, xattrs, content),
    )
  }

  #write(file: OpenFile, fd: number, chunk: Buffer): void {
    const { sparse } = file.entry
    for (let at = 0; at < chunk.length; ) {
      let count = chunk.length - at
      if (sparse) {
        let piece = sparse[file.piece]
        while (piece && file.pieceDone === piece.length) {
          piece = sparse[++file.piece]
          file.pieceDone = 0
          file.offset = piece?.offset ?? 0
        }
        if (!piece) return
        count = Math.min(count, piece.length - file.pieceDone)
      }
      const isHole = count >= HOLE_BYTES && isZero(chunk.subarray(at, at + count))
      const written = isHole ? count : writeSync(fd, chunk, at, count, file.offset)
      at += written
      file.offset += written
      file.pieceDone += written
    }
  }
}

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length)
    if (!part.equals(ZEROS.subarray(0, part.length))) return false
  }
  return true
}

/** What an entry's failure means to a person, with the entry's name. */
function explain(error: unknown, entry: TarEntry): Fault {
  const what = `cannot unpack "${printable(entry.path)}"`
  if (error instanceof Fault) {
    return new Fault(error.code, `${what}: ${error.message}`, { cause: error.cause })
  }
  if (isErrno(error, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EMLINK', 'EMFILE', 'ENFILE')) {
    return new Fault('RESOURCE_EXHAUSTED', `${what}: ${reasonOf(error)}`, { cause: error })
  }
  if (isErrno(error, 'ENAMETOOLONG', 'ENOTDIR', 'ELOOP', 'ENOENT', 'EINVAL')) {
    return new Fault('INVALID_ARGUMENT', `${what}: ${reasonOf(error)}`, { cause: error })
  }
  if (isErrno(error, 'EOPNOTSUPP', 'EPERM', 'EROFS', 'EACCES')) {
    return new Fault(
      'FAILED_PRECONDITION',
      `${what}: the file system or the kernel does not allow it: ${reasonOf(error)}`,
      { cause: error },
    )
  }
  return new Fault('INTERNAL', `${what}: ${reasonOf(error)}`, { cause: error })
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
