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
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, byteName, cleanPath, printable } from './bytes.ts'
import { decompress } from './compress.ts'
import { LAYER_LIMITS, type LayerLimits } from './limits.ts'
import { type FileStatus, isOpaque, RESOLVE_PLAIN, readXattrs } from './lower.ts'
import { type TarKind, TarReader } from './tar-reader.ts'
import { END_OF_ARCHIVE, encodeEntry, padding } from './tar-writer.ts'
import { kernelName, Tree } from './tree.ts'
import { TreeWriter } from './tree-writer.ts'
import { isWhiteout, OPAQUE_FILE } from './whiteout.ts'

export interface PackOptions {
  /** An open directory: a mounted root, an upper directory, /proc/PID/root. Nobody vouches for what is in it. */
  readonly rootFd: number
  /** What to pack, as a process in the root would name it; links to its directory are followed inside, its last part is not. The default is all. */
  readonly path?: ByteName
  /** The name of `path` in the archive; the default is its own last part, or '.' for the root. */
  readonly base?: ByteName
  /** 'layer': overlay whiteouts and opaque directories of an upper directory become those of the image format. */
  readonly format?: 'plain' | 'layer'
  readonly crossMounts?: boolean
  /** Directories, as they are called in the archive, that are told without owner, mode, time and attributes. */
  readonly bare?: ReadonlySet<ByteName> | undefined
}

const READ_BYTES = 1024 * 1024
const KINDS = new Map<number, TarKind>([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'character'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
])

/**
 * A tree as a tar stream (PAX), with owners, modes, nanosecond times, extended attributes, hard links and devices. Sockets are left out, as by
 * all tars. A file that shrinks while it is read is filled with zeros, one that grows is cut. NOT_FOUND where nothing is at the path.
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
    const packer = new Packer(options.format ?? 'plain', options.bare)
    const name = parts.at(-1)
    const parent = tree.directory(parts.slice(0, -1), { create: false })
    if (!parent) throw notFound(options.path ?? '')
    if (name === undefined) {
      yield* packer.directory(openDirectory(parent.fd, '.'), options.base ?? '.', 0)
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

class Packer {
  count = 0
  readonly #format: 'plain' | 'layer'
  /** First names of files that have several, by device and inode. */
  readonly #linked = new Map<string, ByteName>()

  readonly #bare: ReadonlySet<ByteName> | undefined

  constructor(format: 'plain' | 'layer', bare: ReadonlySet<ByteName> | undefined) {
    this.#format = format
    this.#bare = bare
  }

  /** One name of a directory, with all below it. Gone meanwhile is nothing. */
  async *node(
    dirFd: number,
    name: ByteName,
    path: ByteName,
    depth: number,
  ): AsyncGenerator<Buffer> {
    let status: FileStatus
    try {
      status = binding.statx(dirFd, kernelName(name), AT_SYMLINK_NOFOLLOW)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return
      throw error
    }
    const kind = KINDS.get(status.mode & S_IFMT)
    if (kind === undefined) return
    if (kind === 'directory') {
      yield* this.directory(openDirectory(dirFd, name), path, depth)
      return
    }
    this.count++
    if (this.#format === 'layer' && isWhiteout(status)) {
      const slash = path.lastIndexOf('/') + 1
      yield this.#whiteout(`${path.slice(0, slash)}.wh.${path.slice(slash)}`)
      return
    }
    const key = `${status.devMajor}:${status.devMinor}:${status.ino}`
    const first = status.nlink > 1 ? this.#linked.get(key) : undefined
    if (first !== undefined) {
      yield encode('hardlink', path, status, { link: first })
      return
    }
    if (status.nlink > 1) this.#linked.set(key, path)
    if (kind === 'file') yield* this.#file(dirFd, name, path)
    else {
      using file = new Fd(binding.openat2(dirFd, kernelName(name), O_PATH | O_NOFOLLOW, 0, 0))
      const link = kind === 'symlink' ? byteName(binding.readlinkat(file.number, '')) : ''
      yield encode(kind, path, status, { link, xattrs: readXattrs(file.number) })
    }
  }

  /** Takes the fd. */
  async *directory(given: Fd, path: ByteName, depth: number): AsyncGenerator<Buffer> {
    using dir = given
    if (depth > LAYER_LIMITS.depth) {
      throw new Fault('RESOURCE_EXHAUSTED', 'the tree is too deep to pack')
    }
    this.count++
    if (this.#bare?.has(path)) yield encodeEntry({ ...BARE, kind: 'directory', path })
    else {
      const status = binding.statx(dir.number, '', AT_EMPTY_PATH)
      yield encode('directory', path, status, { xattrs: readXattrs(dir.number) })
    }
    if (this.#format === 'layer' && isOpaque(dir.number)) {
      yield this.#whiteout(`${path}/${OPAQUE_FILE}`)
    }
    const names = binding.readdir(dir.number).map(({ name }) => byteName(name))
    for (const name of names.sort()) {
      yield* this.node(dir.number, name, `${path}/${name}`, depth + 1)
    }
  }

  async *#file(dirFd: number, name: ByteName, path: ByteName): AsyncGenerator<Buffer> {
    // O_NONBLOCK: a fifo put in its place meanwhile must not hang us.
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
    using file = new Fd(binding.openat2(dirFd, kernelName(name), flags, 0, RESOLVE_PLAIN))
    const status = binding.statx(file.number, '', AT_EMPTY_PATH)
    if ((status.mode & S_IFMT) !== S_IFREG) return
    const size = Number(status.size)
    yield encode('file', path, status, { size, xattrs: readXattrs(file.number) })
    for (let left = size; left > 0; ) {
      const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, left))
      const count = readSync(file.number, chunk, 0, chunk.length, null)
      // Shrunk: the header has promised the rest.
      if (count === 0) chunk.fill(0)
      const good = count === 0 ? chunk : chunk.subarray(0, count)
      left -= good.length
      yield good
    }
    const pad = padding(size)
    if (pad.length > 0) yield pad
  }

  #whiteout(path: ByteName): Buffer {
    return encodeEntry({ ...BARE, kind: 'file', path })
  }
}

const BARE = {
  link: '',
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeNs: 0n,
  major: 0,
  minor: 0,
  xattrs: new Map<string, Buffer>(),
}

function encode(
  kind: TarKind,
  path: ByteName,
  status: FileStatus,
  more: { link?: ByteName; size?: number; xattrs?: ReadonlyMap<string, Buffer> },
): Buffer {
  const isDevice = kind === 'character' || kind === 'block'
  return encodeEntry({
    kind,
    path,
    link: more.link ?? '',
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    size: more.size ?? 0,
    mtimeNs: status.mtimeNs,
    major: isDevice ? status.rdevMajor : 0,
    minor: isDevice ? status.rdevMinor : 0,
    xattrs: more.xattrs ?? new Map(),
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
