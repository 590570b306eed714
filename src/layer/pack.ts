import { readSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SEEK_DATA,
  SEEK_HOLE,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, byteName, cleanPath, printable } from './bytes.ts'
import { decompress } from './compress.ts'
import { LAYER_LIMITS, type LayerLimits } from './limits.ts'
import {
  type Attributes,
  type FileStatus,
  holdsRedirect,
  isOpaque,
  RESOLVE_PLAIN,
  readXattrs,
} from './lower.ts'
import type { SparsePiece } from './sparse.ts'
import { type TarKind, TarReader } from './tar-reader.ts'
import { END_OF_ARCHIVE, encodeEntry, padding, sparseMap } from './tar-writer.ts'
import { kernelName, Tree } from './tree.ts'
import { TreeWriter } from './tree-writer.ts'
import { isWhiteout, OPAQUE_FILE, WHITEOUT_PREFIX } from './whiteout.ts'

export interface PackOptions {
  /** An open directory: a mounted root, an upper directory, /proc/PID/root. Nobody vouches for what is in it. */
  readonly rootFd: number
  /** What to pack, as a process in the root would name it; links to its directory are followed inside, its last part is not. The default is all. */
  readonly path?: ByteName
  /** The name of `path` in the archive; the default is its own last part, or '.' for the root. With '' names are those below the root: `etc/passwd`. */
  readonly base?: ByteName
  readonly crossMounts?: boolean
  /** The tree is a layer's: overlay's whiteouts and opaque directories become those of the image format. */
  readonly whiteouts?: boolean
  /** Whether large holes are holes in the archive; else zeros. True. */
  readonly holes?: boolean
  /** Modes, owners, times and attributes as the archive is to have them. The path is the archive's. */
  readonly alter?: (path: ByteName, is: Attributes) => Attributes
}

/** What an upper directory's archive is made of besides (pack-layer.ts). */
export interface LayerRules {
  /** Paths that are left out, with all below them. */
  readonly omitted: ReadonlySet<ByteName>
  /** Whether the layers below show something at a path. */
  readonly isBelow: (path: ByteName) => boolean
}

const READ_BYTES = 1024 * 1024
/** Holes of fewer bytes are written as zeros: a reader that knows no sparse files can then read the archive. */
const HOLES_BYTES_MIN = 1024 * 1024
const KINDS = new Map<number, TarKind>([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'character'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
])

/**
 * A tree as a tar stream (PAX), with owners, modes, nanosecond times, extended attributes, hard links, large holes and devices. Sockets are left
 * out, as by all tars. A file that shrinks while it is read is filled with zeros, one that grows is cut, what vanishes is not there. NOT_FOUND
 * where nothing is at the path.
 */
export async function* packTree(options: PackOptions): AsyncGenerator<Buffer> {
  const { parts } = cleanPath(options.path ?? '')
  const tree = new Tree(options.rootFd, {
    crossMounts: options.crossMounts === true,
    depthMax: LAYER_LIMITS.depth,
    make: () => undefined,
    whiteoutsAreMissing: false,
  })
  try {
    const packer = new Packer(options)
    const name = parts.at(-1)
    const parent = tree.directory(parts.slice(0, -1), { create: false })
    if (!parent) throw notFound(options.path ?? '')
    if (name === undefined) {
      const root = openDirectory(parent.fd, '.')
      yield* packer.directory(root, options.base ?? '.', 0)
    } else {
      yield* packer.node(parent.fd, name, options.base ?? name, 0)
      if (packer.count === 0) throw notFound(options.path ?? '')
    }
    yield END_OF_ARCHIVE
  } finally {
    tree.close()
  }
}

function notFound(path: ByteName): Fault {
  return new Fault('NOT_FOUND', `there is no ${printable(path)} in the container`)
}

function openDirectory(dirFd: number, name: ByteName): Fd {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
  return new Fd(binding.openat2(dirFd, kernelName(name), flags, 0, RESOLVE_PLAIN))
}

/** What `open` gives; undefined where the name is gone, or something else has come in its place. */
function ifStill<T>(open: () => T): T | undefined {
  try {
    return open()
  } catch (error) {
    // ESTALE: an overlay whose layer has changed below it.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ESTALE')) return undefined
    throw error
  }
}

export class Packer {
  count = 0
  readonly #alter: NonNullable<PackOptions['alter']>
  readonly #whiteouts: boolean
  readonly #holes: boolean
  readonly #layer: LayerRules | undefined
  /** First names of files that have several, by device and inode. */
  readonly #linked = new Map<string, ByteName>()

  constructor(options: Pick<PackOptions, 'alter' | 'whiteouts' | 'holes'>, layer?: LayerRules) {
    this.#alter = options.alter ?? ((_path, is) => is)
    this.#whiteouts = options.whiteouts === true
    this.#holes = options.holes !== false
    this.#layer = layer
  }

  /** One name of a directory, with all below it. Gone meanwhile is nothing. */
  async *node(
    dirFd: number,
    name: ByteName,
    path: ByteName,
    depth: number,
  ): AsyncGenerator<Buffer> {
    if (this.#layer?.omitted.has(path)) return
    const status = ifStill(() => binding.statx(dirFd, kernelName(name), AT_SYMLINK_NOFOLLOW))
    if (status === undefined) return
    const kind = KINDS.get(status.mode & S_IFMT)
    // A socket cannot be in an archive, but what it hides is gone.
    const isGone = kind === undefined ? this.#layer?.isBelow(path) === true : isWhiteout(status)
    if (this.#whiteouts && isGone) {
      this.count++
      const slash = path.lastIndexOf('/') + 1
      yield whiteout(`${path.slice(0, slash)}${WHITEOUT_PREFIX}${path.slice(slash)}`)
      return
    }
    if (kind === undefined) return
    if (kind === 'directory') {
      const dir = ifStill(() => openDirectory(dirFd, name))
      if (dir) yield* this.directory(dir, path, depth)
      return
    }
    const key = `${status.devMajor}:${status.devMinor}:${status.ino}`
    const first = status.nlink > 1 ? this.#linked.get(key) : undefined
    if (first !== undefined) {
      this.count++
      yield this.#encode('hardlink', path, status, { link: first, xattrs: new Map() })
      return
    }
    if (kind === 'file') {
      yield* this.#file(dirFd, name, path)
      return
    }
    const flags = O_PATH | O_NOFOLLOW
    using file = ifStill(() => new Fd(binding.openat2(dirFd, kernelName(name), flags, 0, 0)))
    if (!file) return
    this.count++
    if (status.nlink > 1) this.#linked.set(key, path)
    const link = kind === 'symlink' ? ifStill(() => binding.readlinkat(file.number, '')) : ''
    if (link === undefined) return
    const xattrs = this.#xattrs(file.number, path)
    yield this.#encode(kind, path, status, { link: byteName(Buffer.from(link)), xattrs })
  }

  /** Takes the fd. */
  async *directory(given: Fd, path: ByteName, depth: number): AsyncGenerator<Buffer> {
    using dir = given
    if (depth > LAYER_LIMITS.depth) {
      throw new Fault('RESOURCE_EXHAUSTED', 'the tree is too deep to pack')
    }
    this.count++
    yield this.head(dir.number, path)
    yield* this.content(dir.number, path, depth)
  }

  /** The entry of a directory alone. */
  head(dirFd: number, path: ByteName): Buffer {
    const status = binding.statx(dirFd, '', AT_EMPTY_PATH)
    return this.#encode('directory', path, status, { xattrs: this.#xattrs(dirFd, path) })
  }

  /** All that is in a directory, without an entry for itself. */
  async *content(dirFd: number, path: ByteName, depth: number): AsyncGenerator<Buffer> {
    const below = path === '' ? '' : `${path}/`
    if (this.#whiteouts && isOpaque(dirFd)) yield whiteout(`${below}${OPAQUE_FILE}`)
    const found = ifStill(() => binding.readdir(dirFd)) ?? []
    for (const name of found.map((each) => byteName(each.name)).sort()) {
      // A file so named would be read as a whiteout, or refused.
      if (this.#layer && name.startsWith(WHITEOUT_PREFIX)) {
        throw new Fault(
          'FAILED_PRECONDITION',
          `the layer cannot be made: ${printable(below + name)} has a name that means a deleted file in an image`,
        )
      }
      yield* this.node(dirFd, name, `${below}${name}`, depth + 1)
    }
  }

  async *#file(dirFd: number, name: ByteName, path: ByteName): AsyncGenerator<Buffer> {
    // O_NONBLOCK: a fifo put in its place meanwhile must not hang us.
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
    using file = ifStill(
      () => new Fd(binding.openat2(dirFd, kernelName(name), flags, 0, RESOLVE_PLAIN)),
    )
    if (!file) return
    const status = binding.statx(file.number, '', AT_EMPTY_PATH)
    if ((status.mode & S_IFMT) !== S_IFREG) return
    this.count++
    if (status.nlink > 1) {
      this.#linked.set(`${status.devMajor}:${status.devMinor}:${status.ino}`, path)
    }
    const size = Number(status.size)
    const xattrs = this.#xattrs(file.number, path)
    const pieces = this.#holes ? dataPieces(file.number, status) : undefined
    if (!pieces) {
      yield this.#encode('file', path, status, { size, xattrs })
      yield* content(file.number, 0, size)
      yield padding(size)
      return
    }
    const map = sparseMap(pieces)
    const data = pieces.reduce((sum, { length }) => sum + length, 0)
    yield this.#encode('file', path, status, { size, xattrs, sparse: map.length + data })
    yield map
    for (const { offset, length } of pieces) yield* content(file.number, offset, length)
    yield padding(data)
  }

  #xattrs(fd: number, path: ByteName): Map<string, Buffer> {
    if (this.#layer && holdsRedirect(fd)) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `the layer cannot be made: ${printable(path)} is only a reference to a lower layer (overlay's redirect_dir or metacopy)`,
      )
    }
    return readXattrs(fd)
  }

  #encode(
    kind: TarKind,
    path: ByteName,
    status: FileStatus,
    more: {
      link?: ByteName
      size?: number
      xattrs: ReadonlyMap<string, Buffer>
      sparse?: number
    },
  ): Buffer {
    const isDevice = kind === 'character' || kind === 'block'
    const { uid, gid, mtimeNs } = status
    const mode = status.mode & 0o7777
    const altered = this.#alter(path, { mode, uid, gid, mtimeNs, xattrs: more.xattrs })
    return encodeEntry(
      {
        kind,
        path: path === '' ? '.' : path,
        link: more.link ?? '',
        size: more.size ?? 0,
        major: isDevice ? status.rdevMajor : 0,
        minor: isDevice ? status.rdevMinor : 0,
        ...altered,
      },
      more.sparse,
    )
  }
}

/** The pieces of a file with large holes; undefined for any other. */
function dataPieces(fd: number, { size, blocks }: FileStatus): SparsePiece[] | undefined {
  if (size - blocks * 512n < HOLES_BYTES_MIN) return
  const end = Number(size)
  const pieces: SparsePiece[] = []
  let data = 0
  for (let at = 0; at < end; ) {
    let offset: number
    try {
      offset = binding.lseek(fd, at, SEEK_DATA)
    } catch (error) {
      if (!isErrno(error, 'ENXIO')) throw error
      break
    }
    // It grows while we read.
    if (offset >= end) break
    at = Math.min(end, binding.lseek(fd, offset, SEEK_HOLE))
    pieces.push({ offset, length: at - offset })
    data += at - offset
    // In so many pieces it would be refused by who reads the archive.
    if (pieces.length > LAYER_LIMITS.sparsePieces) return
  }
  return end - data < HOLES_BYTES_MIN ? undefined : pieces
}

function* content(fd: number, offset: number, length: number): Generator<Buffer> {
  for (let at = offset; at < offset + length; ) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, offset + length - at))
    const count = readSync(fd, chunk, 0, chunk.length, at)
    // Shrunk: the header has promised the rest.
    if (count === 0) chunk.fill(0)
    const good = count === 0 ? chunk : chunk.subarray(0, count)
    at += good.length
    yield good
  }
}

function whiteout(path: ByteName): Buffer {
  return encodeEntry({
    kind: 'file',
    path,
    link: '',
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeNs: 0n,
    major: 0,
    minor: 0,
    xattrs: new Map(),
  })
}

export interface ExtractOptions {
  /** As in PackOptions. */
  readonly rootFd: number
  /** The directory to extract into, resolved inside the root; made where it is missing. */
  readonly path: ByteName
  /** A tar stream, compressed or not. */
  readonly source: AsyncIterable<Uint8Array>
  /** Owner of all that is made; the default is what the archive says. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined
  readonly limits?: Partial<LayerLimits>
  readonly crossMounts?: boolean
}

/**
 * Extracts a tar stream below a root that nobody vouches for, a running container's too: no name and no link leads out of it. An archive's
 * paths are relative to `path`; a directory is not replaced by anything else (FAILED_PRECONDITION).
 */
export async function extractInto(options: ExtractOptions): Promise<void> {
  const limits = { ...LAYER_LIMITS, ...options.limits }
  const place = cleanPath(options.path).parts
  const writer = new TreeWriter(options.rootFd, {
    format: 'plain',
    limits,
    owner: options.owner,
    crossMounts: options.crossMounts,
    rename: (path) => [...place, ...cleanPath(path).parts].join('/'),
  })
  try {
    const reader = new TarReader(writer, limits)
    for await (const chunk of decompress(options.source, limits)) reader.push(chunk)
    reader.finish()
    writer.finish()
  } finally {
    writer.close()
  }
}
