import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import {
  ensureDirectory,
  namesIn,
  readFileIfAny,
  readJsonIfAny,
  TEMPORARY,
  writeFileAtomic,
} from '../base/file.ts'
import { binding } from '../kernel/binding.ts'
import { lockFile, tryLockFile } from '../kernel/lock.ts'
import { syncDirectoryTogether, syncTogether } from '../kernel/sync.ts'
import type { ByteName } from './bytes.ts'

/** What is known of an unpacked layer: ROOT/layers/sha256/HEX/meta.json. */
export interface LayerInfo {
  readonly version: 1
  /** sha256 of the uncompressed archive. */
  readonly diffId: string
  /** sha256 of the archive, compressed as it came, that the tree was made from; layers of before it was kept have none. */
  readonly blob?: string
  /** Bytes on disk, and inodes. */
  readonly size: number
  readonly inodes: number
  /** Directories without an entry of their own (one character a byte); '' is the layer's root. */
  readonly implicit: readonly ByteName[]
  /** Everything below this layer is hidden. */
  readonly rootOpaque: boolean
  /** ISO 8601. */
  readonly created: string
}

/** A directory being filled: ROOT/layers/tmp/NAME, locked by its living writer. */
export interface LayerWork {
  /** It becomes the layer, with nothing in it but the tree and its record. */
  readonly directory: string
  readonly tree: string
  /** Removes what is left and gives up the lock; after publishing nothing is left. */
  discard(): Promise<void>
}

/** What was written to the file system of a directory before the call is on the disk when it returns. */
export type ToDisk = (directory: string) => Promise<void>

const DIGEST = /^sha256:([0-9a-f]{64})$/

/** The hexadecimal part of a digest; INVALID_ARGUMENT for what is none, so that none leads out of the store. */
export function digestHex(digest: string): string {
  const hex = DIGEST.exec(digest)?.[1]
  if (hex === undefined) throw new Fault('INVALID_ARGUMENT', `"${digest}" is no sha256 digest`)
  return hex
}

/**
 * Unpacked layers by diff id, shared by all images below one ROOT: ROOT/layers/{sha256,fixup,tmp,locks}. A layer appears by one rename, with
 * all that belongs to it, or not at all; any number of processes may work in it at once.
 */
export class LayerStore {
  readonly directory: string
  /**
   * Whether a layer is on the disk before it appears (syncfs): without it a power cut may leave a layer that looks complete and has
   * empty files. Tests turn it off.
   */
  readonly durable: boolean

  constructor(root: string, options: { durable?: boolean } = {}) {
    this.directory = join(root, 'layers')
    this.durable = options.durable ?? true
    for (const name of ['sha256', 'fixup', 'tmp', 'locks']) {
      ensureDirectory(join(this.directory, name))
    }
  }

  /** The layer's directory tree, an overlay's lower directory; whether or not it exists. */
  treePath(diffId: string): string {
    return join(this.#path(diffId), 'tree')
  }

  has(diffId: string): boolean {
    return this.get(diffId) !== undefined
  }

  /** Undefined too where the record is damaged: unpacking the layer again puts a good one in its place. */
  get(diffId: string): LayerInfo | undefined {
    const path = join(this.#path(diffId), 'meta.json')
    try {
      return asInfo(readJsonIfAny(path), diffId)
    } catch (error) {
      if (error instanceof Fault && error.code === 'DATA_LOSS') return undefined
      throw error
    }
  }

  /**
   * What fingerprint.ts has found the tree to be when it was last compared with its archive; undefined where it never was. Kept beside the
   * tree, so that a later check needs no archive.
   */
  fingerprint(diffId: string): string | undefined {
    const text = readFileIfAny(join(this.#path(diffId), 'fingerprint'))
    return text !== undefined && DIGEST.test(text) ? text : undefined
  }

  /** The caller holds the layer's lock. */
  setFingerprint(diffId: string, fingerprint: string): void {
    writeFileAtomic(join(this.#path(diffId), 'fingerprint'), fingerprint, {
      durable: this.durable,
    })
  }

  /** Where the layer's recipe is (recipe.ts), if it has one: whether it does is `existsSync`. */
  recipePath(diffId: string): string {
    return join(this.#path(diffId), 'recipe')
  }

  /** Hexadecimal names of what stands where layers do, whatever state it is in. */
  names(): string[] {
    return readdirSync(join(this.directory, 'sha256'))
  }

  /** All layers, in no order. */
  list(): LayerInfo[] {
    return readdirSync(join(this.directory, 'sha256'))
      .map((hex) => this.get(`sha256:${hex}`))
      .filter((info) => info !== undefined)
  }

  /** Bytes and inodes of all layers. */
  usage(): { bytes: number; inodes: number } {
    let bytes = 0
    let inodes = 0
    for (const info of this.list()) {
      bytes += info.size
      inodes += info.inodes
    }
    return { bytes, inodes }
  }

  /** Waits for whoever unpacks or removes this layer. */
  async lock(diffId: string, signal?: AbortSignal): Promise<Disposable> {
    return this.lockName(digestHex(diffId), signal)
  }

  /** A lock of any name of hexadecimal digits and dashes; its file goes with it. */
  async lockName(name: string, signal?: AbortSignal): Promise<Disposable> {
    const path = join(this.directory, 'locks', name)
    const lock = await lockFile(path, { exclusive: true, signal })
    return {
      [Symbol.dispose]: () => {
        try {
          rmSync(path, { force: true })
        } finally {
          lock.release()
        }
      },
    }
  }

  /** A new empty work directory. */
  begin(): LayerWork {
    for (;;) {
      const name = randomBytes(8).toString('hex')
      const directory = join(this.directory, 'tmp', name)
      const lockPath = `${directory}.lock`
      // Locked before it exists: the collector takes what it can lock for the debris of a dead process.
      const lock = tryLockFile(lockPath, { exclusive: true })
      if (!lock) continue
      const work = { directory, tree: join(directory, 'tree') }
      const discard = async (): Promise<void> => {
        try {
          // Where it has become a layer nothing is left.
          if (existsSync(directory)) await this.#removeTemporary(name)
          rmSync(lockPath, { force: true })
        } finally {
          lock.release()
        }
      }
      try {
        mkdirSync(work.directory, { mode: 0o700 })
        mkdirSync(work.tree)
        // mkdir's mode goes through the umask; the root of an image without an entry for it is 0755.
        chmodSync(work.tree, 0o755)
      } catch (error) {
        rmSync(directory, { recursive: true, force: true })
        rmSync(lockPath, { force: true })
        lock.release()
        throw error
      }
      return { ...work, discard }
    }
  }

  /** Makes the work directory the layer `info` speaks of. The caller holds the layer's lock. */
  async publish(work: LayerWork, info: LayerInfo, toDisk?: ToDisk): Promise<void> {
    await this.publishAt(work, info, this.#path(info.diffId), toDisk)
  }

  async publishAt(
    work: LayerWork,
    meta: object,
    target: string,
    toDisk: ToDisk = syncTogether,
  ): Promise<void> {
    writeFileAtomic(join(work.directory, 'meta.json'), `${JSON.stringify(meta)}\n`)
    if (this.durable) await toDisk(work.directory)
    // A directory without a good meta.json is no layer: it makes room.
    await this.#moveAway(target)
    renameSync(work.directory, target)
    if (this.durable) await syncDirectoryTogether(dirname(target))
  }

  /** Nothing there is success. The caller vouches that no container and no image needs it. */
  async remove(diffId: string): Promise<void> {
    using _lock = await this.lock(diffId)
    await this.#moveAway(this.#path(diffId))
  }

  /** Removes a fix-up layer (see chain.ts) by its chain's hexadecimal id. */
  async removeFixup(hex: string): Promise<void> {
    using _lock = await this.lockName(`fixup-${digestHex(`sha256:${hex}`)}`)
    await this.#moveAway(join(this.directory, 'fixup', hex))
  }

  /** Hexadecimal chain ids of the fix-up layers. */
  listFixups(): string[] {
    return readdirSync(join(this.directory, 'fixup'))
  }

  /** What dead processes left half made. */
  temporary(): number {
    const directory = join(this.directory, 'tmp')
    let count = 0
    for (const name of new Set(readdirSync(directory).map((n) => n.replace(/\.lock$/, '')))) {
      using lock = tryLockFile(join(directory, `${name}.lock`), { exclusive: true })
      if (lock) count++
    }
    return count + [...this.#cutOff()].length
  }

  /** Removes what dead processes left half made; returns how many. Never what a living one works on. */
  async collectTemporary(): Promise<number> {
    let count = 0
    const directory = join(this.directory, 'tmp')
    const names = new Set(readdirSync(directory).map((name) => name.replace(/\.lock$/, '')))
    for (const name of names) {
      const lockPath = join(directory, `${name}.lock`)
      using lock = tryLockFile(lockPath, { exclusive: true })
      if (!lock) continue
      await this.#removeTemporary(name)
      rmSync(lockPath, { force: true })
      count++
    }
    for (const name of readdirSync(join(this.directory, 'locks'))) {
      const path = join(this.directory, 'locks', name)
      using lock = tryLockFile(path, { exclusive: true })
      if (lock) rmSync(path, { force: true })
    }
    for (const path of this.#cutOff()) {
      rmSync(path, { force: true })
      count++
    }
    return count
  }

  /** Fingerprints and recipes that a killed writer has left half written; whoever writes beside a tree has its lock. */
  *#cutOff(): Generator<string> {
    for (const hex of this.names()) {
      const layer = join(this.directory, 'sha256', hex)
      const names = namesIn(layer).filter((name) => name.includes(TEMPORARY))
      if (names.length === 0) continue
      const lockPath = join(this.directory, 'locks', hex)
      using lock = tryLockFile(lockPath, { exclusive: true })
      if (!lock) continue
      yield* names.map((name) => join(layer, name))
      rmSync(lockPath, { force: true })
    }
  }

  #path(diffId: string): string {
    return join(this.directory, 'sha256', digestHex(diffId))
  }

  /** By a rename first, so that no half of it is ever seen. */
  async #moveAway(path: string): Promise<void> {
    if (!existsSync(path)) return
    const work = this.begin()
    try {
      renameSync(path, join(work.directory, 'old'))
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    } finally {
      await work.discard()
    }
  }

  async #removeTemporary(name: string): Promise<void> {
    const fd = openSync(join(this.directory, 'tmp'), 'r')
    try {
      await binding.removeTree(fd, name, fd, `${name}.trash-${randomBytes(4).toString('hex')}`)
    } finally {
      closeSync(fd)
    }
  }
}

function asInfo(value: unknown, diffId: string): LayerInfo | undefined {
  if (value === undefined) return undefined
  const info = value as Partial<LayerInfo> | null
  const isGood =
    info?.version === 1 &&
    info.diffId === diffId &&
    typeof info.size === 'number' &&
    typeof info.inodes === 'number' &&
    ['string', 'undefined'].includes(typeof info.blob) &&
    Array.isArray(info.implicit) &&
    typeof info.rootOpaque === 'boolean' &&
    typeof info.created === 'string'
  return isGood ? (info as LayerInfo) : undefined
}

/** Bytes on disk and inodes below a directory: a container's upper directory, for example. Hard links count once. */
export async function treeUsage(path: string): Promise<{ bytes: number; inodes: number }> {
  const fd = openSync(path, 'r')
  try {
    return await binding.treeUsage(fd)
  } finally {
    closeSync(fd)
  }
}
