import type { Hash } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  fstatSync,
  fsync as fsyncCallback,
  ftruncateSync,
  openSync,
  read as readCallback,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  write as writeCallback,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Fault, isErrno } from '../base/fault.ts'
import { ensureDirectory } from '../base/file.ts'
import { type FileLock, lockFile, tryLockFile } from '../kernel/lock.ts'
import { syncDirectoryTogether } from '../kernel/sync.ts'
import type { Digest } from '../spec/image.ts'
import {
  ALGORITHMS,
  algorithmOf,
  finish,
  hasherOf,
  hexOf,
  mismatch,
  verifyBytes,
} from './digest.ts'

// Not the synchronous ones: a daemon answers others while a large blob goes to a slow disk.
const read = promisify(readCallback)
const write = promisify(writeCallback)
const fsync = promisify(fsyncCallback)

const READ_CHUNK_BYTES = 1024 * 1024
/** A part of a blob that nobody has gone on with for so long is not waited for any more. */
const PARTIAL_AGE_MAX_MS = 24 * 60 * 60_000
/** Prefix of scratch files, whose content nobody can name after their owner's death. */
const SCRATCH = 'scratch-'

/**
 * Bytes by their digest: ROOT/images/blobs/ALGORITHM/HEX, each complete, verified and on the disk before it has its name, and
 * never changed after.
 *
 * What is on its way is ROOT/images/ingest/ALGORITHM-HEX: that one file is the partial blob and, by an flock on it, the right to
 * write it. So two processes fetch a blob once, a killed one leaves no stale lock, and the next takes up what it left.
 */
export class BlobStore {
  readonly #blobs: string
  readonly #ingest: string

  /** `directory` is ROOT/images. */
  constructor(directory: string) {
    this.#blobs = join(directory, 'blobs')
    this.#ingest = join(directory, 'ingest')
    for (const algorithm of ALGORITHMS) {
      ensureDirectory(join(this.#blobs, algorithm))
    }
    ensureDirectory(this.#ingest)
  }

  path(digest: Digest): string {
    return join(this.#blobs, algorithmOf(digest), hexOf(digest))
  }

  /** Bytes of the blob; undefined where the store has none. */
  size(digest: Digest): number | undefined {
    return statSync(this.path(digest), { throwIfNoEntry: false })?.size
  }

  has(digest: Digest): boolean {
    return this.size(digest) !== undefined
  }

  /** A small blob whole, verified again. NOT_FOUND, RESOURCE_EXHAUSTED over the limit, DATA_LOSS where the disk lies. */
  read(digest: Digest, bytesMax: number): Buffer {
    let fd: number
    try {
      fd = openSync(this.path(digest), 'r')
    } catch (error) {
      if (isErrno(error, 'ENOENT')) throw new Fault('NOT_FOUND', `the store has no blob ${digest}`)
      throw error
    }
    try {
      const { size } = fstatSync(fd)
      if (size > bytesMax) {
        throw new Fault(
          'RESOURCE_EXHAUSTED',
          `blob ${digest} has ${size} bytes; the limit is ${bytesMax}`,
        )
      }
      const bytes = Buffer.alloc(size)
      for (let done = 0; done < size; ) {
        const n = readSync(fd, bytes, done, size - done, done)
        if (n === 0) break
        done += n
      }
      verifyBytes(bytes, digest, `blob ${digest} on the disk`)
      return bytes
    } finally {
      closeSync(fd)
    }
  }

  /** Stores bytes at hand, also in the place of a stored blob that is damaged. */
  async write(digest: Digest, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.#isGood(digest, bytes.length)) return
    await using ingest = await this.ingest(digest, {
      bytesMax: bytes.length,
      size: bytes.length,
      signal,
    })
    if (ingest.isStored && this.#isGood(digest, bytes.length)) return
    ingest.restart()
    await ingest.write(bytes)
    await ingest.commit()
  }

  /** Whether a stored blob of any size still is what its name says; false where there is none. */
  async isIntact(digest: Digest): Promise<boolean> {
    const hash = hasherOf(digest)
    try {
      const stream = createReadStream(this.path(digest), { highWaterMark: READ_CHUNK_BYTES })
      for await (const chunk of stream) hash.update(chunk as Uint8Array)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false
      throw error
    }
    return finish(hash, algorithmOf(digest)) === digest
  }

  #isGood(digest: Digest, size: number): boolean {
    try {
      this.read(digest, size)
      return true
    } catch (error) {
      if (error instanceof Fault) return false
      throw error
    }
  }

  /**
   * Waits for the right to write this blob. Whoever gets it looks at `isStored` first: another process may have stored it
   * meanwhile. `size` where it is known, else `bytesMax` alone limits.
   */
  async ingest(
    digest: Digest,
    options: { bytesMax: number; size?: number | undefined; signal?: AbortSignal | undefined },
  ): Promise<Ingest> {
    const limit = options.size ?? options.bytesMax
    if (limit > options.bytesMax) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `blob ${digest} has ${limit} bytes; the limit is ${options.bytesMax}`,
      )
    }
    const partial = join(this.#ingest, `${algorithmOf(digest)}-${hexOf(digest)}`)
    const lock = await lockFile(partial, { exclusive: true, signal: options.signal })
    try {
      return new Ingest({
        digest,
        partial,
        path: this.path(digest),
        directory: join(this.#blobs, algorithmOf(digest)),
        limit,
        size: options.size,
        isStored: this.has(digest),
        lock,
      })
    } catch (error) {
      lock.release()
      throw error
    }
  }

  /** A file for bytes without a digest yet (an archive from a pipe). It is removed at the end, or by `collectScratch`. */
  async scratch(): Promise<Scratch> {
    const path = join(this.#ingest, `${SCRATCH}${process.pid}-${process.hrtime.bigint()}`)
    return new Scratch(path, await lockFile(path, { exclusive: true }))
  }

  /** Every stored digest. */
  *digests(): Generator<Digest> {
    for (const algorithm of ALGORITHMS) {
      for (const hex of readdirSync(join(this.#blobs, algorithm))) {
        yield `${algorithm}:${hex}` as Digest
      }
    }
  }

  /** Every stored digest with its size. */
  *list(): Generator<{ digest: Digest; size: number }> {
    for (const digest of this.digests()) {
      const size = this.size(digest)
      if (size !== undefined) yield { digest, size }
    }
  }

  /** Blobs on their way, and what killed transfers left of others. */
  partial(): { bytes: number; files: number } {
    let bytes = 0
    let files = 0
    for (const name of readdirSync(this.#ingest)) {
      const status = statSync(join(this.#ingest, name), { throwIfNoEntry: false })
      if (status === undefined) continue
      bytes += status.size
      files++
    }
    return { bytes, files }
  }

  remove(digest: Digest): void {
    rmSync(this.path(digest), { force: true })
  }

  /**
   * Removes what killed processes left in ingest/: scratch files, and with `partials` the part-fetched blobs that a later pull
   * could take up; those that none has for a day go in any case. A file whose lock is held has a living owner and stays. Returns the bytes
   * gained.
   */
  collectIngest(options: { partials: boolean }): number {
    let bytes = 0
    for (const name of readdirSync(this.#ingest)) {
      const path = join(this.#ingest, name)
      if (!options.partials && !name.startsWith(SCRATCH) && !isOld(path)) continue
      using lock = tryLockFile(path, { exclusive: true })
      if (lock === undefined) continue
      bytes += fstatSync(lock.fd).size
      rmSync(path, { force: true })
    }
    return bytes
  }
}

function isOld(path: string): boolean {
  const status = statSync(path, { throwIfNoEntry: false })
  return status !== undefined && Date.now() - status.mtimeMs > PARTIAL_AGE_MAX_MS
}

/** ENOSPC and its like, said in words, with a path on the disk that is full; any other error as it is. */
export function diskFault(error: unknown, what: string, path: string): unknown {
  if (!isErrno(error, 'ENOSPC', 'EDQUOT')) return error
  return new Fault(
    'RESOURCE_EXHAUSTED',
    `no space is left on the disk to store ${what} (${path})`,
    {
      cause: error,
    },
  )
}

/** One blob being written under its lock. Ends by `commit`, `discard`, or by disposal, which keeps the part for later. */
export class Ingest {
  readonly digest: Digest
  /** The blob was complete when the lock was got: nothing is to be written. */
  readonly isStored: boolean
  readonly #partial: string
  readonly #path: string
  readonly #directory: string
  readonly #limit: number
  readonly #size: number | undefined
  readonly #lock: FileLock
  #hash: Hash
  #offset = 0
  #isSynced = false
  #isOpen = true

  constructor(options: {
    digest: Digest
    partial: string
    path: string
    directory: string
    limit: number
    size: number | undefined
    isStored: boolean
    lock: FileLock
  }) {
    this.digest = options.digest
    this.isStored = options.isStored
    this.#partial = options.partial
    this.#path = options.path
    this.#directory = options.directory
    this.#limit = options.limit
    this.#size = options.size
    this.#lock = options.lock
    this.#hash = hasherOf(options.digest)
  }

  /** The file that is being written. */
  get path(): string {
    return this.#partial
  }

  /** Bytes written and hashed so far: where a transfer goes on. */
  get offset(): number {
    return this.#offset
  }

  /** The part an earlier process left, hashed and handed on in order. Call it once, first. */
  async *resume(): AsyncGenerator<Uint8Array> {
    const { size } = fstatSync(this.#lock.fd)
    // Longer than the whole is no part of it.
    if (size > this.#limit) {
      this.restart()
      return
    }
    while (this.#offset < size) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_CHUNK_BYTES, size - this.#offset))
      const { bytesRead } = await read(this.#lock.fd, buffer, 0, buffer.length, this.#offset)
      if (bytesRead === 0) break
      const chunk = buffer.subarray(0, bytesRead)
      this.#hash.update(chunk)
      this.#offset += bytesRead
      yield chunk
    }
  }

  /** Forgets what is there: the transfer begins again at byte 0. */
  restart(): void {
    this.#isSynced = false
    ftruncateSync(this.#lock.fd, 0)
    this.#hash = hasherOf(this.digest)
    this.#offset = 0
  }

  /** DATA_LOSS as soon as there is a byte more than promised: an endless body fills no disk. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#offset + chunk.length > this.#limit) {
      throw new Fault(
        'DATA_LOSS',
        `blob ${this.digest} is longer than the ${this.#limit} bytes promised`,
      )
    }
    this.#isSynced = false
    try {
      const writing = write(this.#lock.fd, chunk)
      // While the other thread writes. Where that fails, nothing more is written with this hash.
      this.#hash.update(chunk)
      for (let done = (await writing).bytesWritten; done < chunk.length; ) {
        done += (await write(this.#lock.fd, chunk, done)).bytesWritten
      }
    } catch (error) {
      throw diskFault(error, `blob ${this.digest}`, this.#directory)
    }
    this.#offset += chunk.length
  }

  /** Throws DATA_LOSS, and drops the part, where size or digest is not the promised one. May be called before `commit`. */
  verify(): void {
    if (this.#size !== undefined && this.#offset !== this.#size) {
      const text = `blob ${this.digest} ended after ${this.#offset} of ${this.#size} bytes`
      throw new Fault('DATA_LOSS', text)
    }
    const actual = finish(this.#hash.copy(), algorithmOf(this.digest))
    if (actual !== this.digest) {
      this.restart()
      throw mismatch(`blob ${this.digest}`, this.digest, actual)
    }
  }

  /** A syncfs of this directory's file system has begun after the last write and is done: a blob that is on it needs none of its own. */
  synced(directory: string): void {
    this.#isSynced = fstatSync(this.#lock.fd).dev === statSync(directory).dev
  }

  /** Verifies and gives the blob its name, both on the disk when this returns. */
  async commit(): Promise<void> {
    this.verify()
    if (!this.#isSynced) await fsync(this.#lock.fd)
    renameSync(this.#partial, this.#path)
    await syncDirectoryTogether(this.#directory)
    this.#end()
  }

  discard(): void {
    if (!this.#isOpen) return
    try {
      rmSync(this.#partial, { force: true })
    } finally {
      this.#end()
    }
  }

  #end(): void {
    this.#isOpen = false
    this.#lock.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return
    // An empty part, or one of a blob that is stored, is no use to anybody.
    try {
      if (this.isStored || fstatSync(this.#lock.fd).size === 0) this.discard()
    } finally {
      this.#end()
    }
  }
}

/** A temporary file that is gone at the end. */
export class Scratch {
  readonly path: string
  readonly #lock: FileLock
  #bytes = 0

  constructor(path: string, lock: FileLock) {
    this.path = path
    this.#lock = lock
  }

  write(chunk: Uint8Array, bytesMax: number): void {
    this.#bytes += chunk.length
    if (this.#bytes > bytesMax) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `an archive is longer than the limit of ${bytesMax} bytes`,
      )
    }
    try {
      for (let done = 0; done < chunk.length; ) done += writeSync(this.#lock.fd, chunk, done)
    } catch (error) {
      throw diskFault(error, 'an archive', this.path)
    }
  }

  [Symbol.dispose](): void {
    try {
      rmSync(this.path, { force: true })
    } finally {
      this.#lock.release()
    }
  }
}
