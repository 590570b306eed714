import { Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { type ByteName, printable, textName } from '../layer/bytes.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { type Attributes, isDirectory } from '../layer/lower.ts'
import { Packer } from '../layer/pack.ts'
import { END_OF_ARCHIVE, encodeEntry } from '../layer/tar-writer.ts'
import type { Tree } from '../layer/tree.ts'
import { WHITEOUT_PREFIX } from '../layer/whiteout.ts'
import {
  directoryIfAny,
  type Found,
  openDirectory,
  readable,
  type Source,
  statusIfAny,
  treeOf,
} from './source.ts'

export interface CopyOptions {
  readonly items: readonly { readonly source: Source; readonly found: Found }[]
  /** The root of the stage that it goes into. */
  readonly viewFd: number
  /** Absolute. */
  readonly target: string
  /** The target is a directory whatever is there: it ends with a slash. */
  readonly isDirectory: boolean
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  readonly mode: number | undefined
  /** Times as the layer is to have them. */
  readonly time: (mtimeNs: bigint) => bigint
  /** Of the directories that are made for it. */
  readonly nowNs: bigint
}

/** A layer with copies of files and trees, written straight out of where they are. */
export async function* copyLayer(options: CopyOptions): AsyncGenerator<Buffer> {
  using target = new Target(options)
  for (const { source, found } of options.items) {
    const copy = new Copy(source, target, options)
    if (isDirectory(found.status)) {
      using dir = openDirectory(found.parentFd, found.base)
      yield* copy.directory(dir.number, found.path)
    } else yield* copy.file(found)
  }
  yield END_OF_ARCHIVE
}

/** The archive of a directory of the stage with those above it, as far as they are missing; empty where nothing is. */
export function missingDirectories(
  options: Pick<CopyOptions, 'viewFd' | 'nowNs' | 'owner'>,
  path: string,
): Buffer[] {
  using target = new Target(options)
  const entries: Buffer[] = []
  target.directory(textName(path).split('/'), (entry) => entries.push(entry))
  return entries.length === 0 ? [] : [...entries, END_OF_ARCHIVE]
}

/** The stage's root with what the layer has put on it so far. */
class Target {
  readonly #tree: Tree
  readonly #options: Pick<CopyOptions, 'nowNs' | 'owner'>
  readonly #made = new Map<ByteName, 'directory' | 'other'>()

  constructor(options: Pick<CopyOptions, 'viewFd' | 'nowNs' | 'owner'>) {
    this.#tree = treeOf(options.viewFd)
    this.#options = options
  }

  /** Makes what is missing of a path; gives where it really is, links of the stage followed. */
  directory(parts: readonly ByteName[], emit: (entry: Buffer) => void): ByteName {
    let real = ''
    for (const part of parts) {
      if (part === '' || part === '.') continue
      const path = real === '' ? part : `${real}/${part}`
      if (this.#made.has(path)) {
        if (this.#made.get(path) === 'other') throw notADirectory(path)
        real = path
        continue
      }
      const there = this.#tree.directory(path.split('/'), { create: false })
      if (there) {
        real = there.path
        this.#tree.trim()
        continue
      }
      emit(this.#make(path))
      real = path
    }
    return real
  }

  #make(path: ByteName): Buffer {
    this.#made.set(path, 'directory')
    const { uid, gid } = this.#options.owner ?? { uid: 0, gid: 0 }
    const rest = {
      mode: 0o755,
      mtimeNs: this.#options.nowNs,
      link: '',
      size: 0,
      major: 0,
      minor: 0,
      xattrs: new Map<string, Buffer>(),
    }
    return encodeEntry({ kind: 'directory', path, uid, gid, ...rest })
  }

  /** Whether a directory is there, a link to one included. */
  isDirectory(path: string): boolean {
    const name = textName(path).replace(/^\/+|\/+$/g, '')
    if (this.#made.get(name) === 'directory') return true
    return directoryIfAny(this.#tree, name.split('/')) !== undefined
  }

  /** Notes what comes at a path; what cannot be put there is refused: a file over a directory, a directory over anything else. */
  put(path: ByteName, kind: 'directory' | 'other'): { isNew: boolean } {
    const before = this.#made.get(path) ?? this.#inView(path)
    if (before !== undefined && before !== kind) {
      throw kind === 'directory'
        ? notADirectory(path)
        : new Fault(
            'FAILED_PRECONDITION',
            `cannot copy a file over the directory /${printable(path)}`,
          )
    }
    this.#made.set(path, kind)
    return { isNew: before === undefined }
  }

  #inView(path: ByteName): 'directory' | 'other' | undefined {
    const slash = path.lastIndexOf('/')
    const parent = directoryIfAny(this.#tree, slash < 0 ? [] : path.slice(0, slash).split('/'))
    const status = parent && statusIfAny(parent.fd, path.slice(slash + 1))
    this.#tree.trim()
    return status && (isDirectory(status) ? 'directory' : 'other')
  }

  [Symbol.dispose](): void {
    this.#tree.close()
  }
}

function notADirectory(path: ByteName): Fault {
  return new Fault(
    'FAILED_PRECONDITION',
    `cannot copy a directory to /${printable(path)}: something else is there (a link, perhaps)`,
  )
}

class Copy {
  readonly #source: Source
  readonly #target: Target
  readonly #options: CopyOptions
  readonly #packer: Packer

  constructor(source: Source, target: Target, options: CopyOptions) {
    this.#source = source
    this.#target = target
    this.#options = options
    const { owner, mode, time } = options
    const alter = (_path: ByteName, is: Attributes): Attributes => ({
      mode: mode ?? is.mode,
      uid: owner?.uid ?? (source.keepsOwners ? is.uid : 0),
      gid: owner?.gid ?? (source.keepsOwners ? is.gid : 0),
      mtimeNs: time(is.mtimeNs),
      xattrs: is.xattrs,
    })
    this.#packer = new Packer({ alter })
  }

  async *file({ parentFd, base, name }: Found): AsyncGenerator<Buffer> {
    const { target, isDirectory: isInside } = this.#options
    const parts = textName(target).split('/')
    const isIn = isInside || this.#target.isDirectory(target)
    const last = isIn ? name : (parts.filter(Boolean).at(-1) ?? '')
    const above = isIn ? parts : parts.filter(Boolean).slice(0, -1)
    const entries: Buffer[] = []
    const parent = this.#target.directory(above, (entry) => entries.push(entry))
    yield* entries
    const path = parent === '' ? last : `${parent}/${last}`
    checkName(path, last)
    this.#target.put(path, 'other')
    yield* this.#packer.node(parentFd, base, path, 0)
  }

  /** What is in a directory goes into the target; a target that is not there yet has its attributes. */
  async *directory(dirFd: number, path: readonly ByteName[]): AsyncGenerator<Buffer> {
    const parts = textName(this.#options.target).split('/').filter(Boolean)
    const entries: Buffer[] = []
    const emit = (entry: Buffer): number => entries.push(entry)
    const parent = this.#target.directory(parts.slice(0, -1), emit)
    yield* entries
    const last = parts.at(-1)
    if (last === undefined) return yield* this.#content(dirFd, '', path, 0, [])
    if (this.#target.isDirectory(this.#options.target)) {
      const real = this.#target.directory(parts, () => {})
      return yield* this.#content(dirFd, real, path, 0, [])
    }
    const made = parent === '' ? last : `${parent}/${last}`
    this.#target.put(made, 'directory')
    yield this.#packer.head(dirFd, made)
    yield* this.#content(dirFd, made, path, 0, [])
  }

  /** `pending` are directories that come only if something in them does. */
  async *#content(
    dirFd: number,
    to: ByteName,
    from: readonly ByteName[],
    depth: number,
    pending: Buffer[],
  ): AsyncGenerator<Buffer> {
    if (depth > LAYER_LIMITS.depth) {
      throw new Fault('RESOURCE_EXHAUSTED', 'the tree is too deep to copy')
    }
    const { ignores } = this.#source
    const names = binding.readdir(dirFd).map(({ name }) => Buffer.from(name).toString('latin1'))
    for (const name of names.sort()) {
      const status = statusIfAny(dirFd, name)
      if (!status) continue
      const path = [...from, name]
      const isIgnored = ignores(readable(path.join('/')))
      if (isIgnored && !(isDirectory(status) && ignores.hasExceptions)) continue
      const target = to === '' ? name : `${to}/${name}`
      checkName(target, name)
      if (!isDirectory(status)) {
        this.#target.put(target, 'other')
        yield* pending.splice(0)
        yield* this.#packer.node(dirFd, name, target, depth + 1)
        continue
      }
      this.#target.put(target, 'directory')
      using dir = openDirectory(dirFd, name)
      pending.push(this.#packer.head(dir.number, target))
      if (!isIgnored) yield* pending.splice(0)
      yield* this.#content(dir.number, target, path, depth + 1, pending)
      if (isIgnored) pending.pop()
    }
  }
}

function checkName(path: ByteName, name: ByteName): void {
  if (!name.startsWith(WHITEOUT_PREFIX)) return
  throw new Fault(
    'FAILED_PRECONDITION',
    `cannot copy ${printable(path)}: its name means a deleted file in an image`,
  )
}
