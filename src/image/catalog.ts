import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Fault } from '../base/fault.ts'
import {
  ensureDirectory,
  readJsonIfAny,
  syncDirectory,
  TEMPORARY,
  writeFileAtomic,
} from '../base/file.ts'
import { lockFile } from '../kernel/lock.ts'
import type { Digest, Platform } from '../spec/image.ts'
import { diskFault } from './blobs.ts'
import { digestIn, hexOf } from './digest.ts'
import { formatReference, parseReference } from './reference.ts'

/** What is known of one image without opening its documents. A function of manifest and configuration: never changed, only replaced. */
export interface ImageRecord {
  readonly version: 1
  /** The configuration's digest: the image's id everywhere. */
  readonly id: Digest
  readonly manifest: Digest
  readonly manifestMediaType: string
  readonly platform: Platform
  /** RFC 3339, as the image says; '' where it says nothing. */
  readonly created: string
  /** Bytes of manifest, configuration and layers as they travel. */
  readonly size: number
  /** Base layer first. */
  readonly diffIds: readonly Digest[]
}

/** A name in the catalog. A reference by digest is a name too: that is where `repository@digest` comes from. */
export interface NameRecord {
  readonly version: 1
  readonly name: string
  readonly id: Digest
  /** The manifest that the name stands for, for this image. */
  readonly manifest: Digest
  /** The index it was chosen from, where there was one. */
  readonly index?: Digest
}

/** An image as the catalog knows it. */
export interface Image extends ImageRecord {
  /** Full tagged names, sorted: `docker.io/library/nginx:latest`. */
  readonly names: readonly string[]
  /** `docker.io/library/nginx@sha256:…`, sorted. */
  readonly repoDigests: readonly string[]
}

/** One file of the catalog: what it says, or in `fault` why it is damaged. */
export type CatalogFile =
  | {
      readonly kind: 'record'
      readonly path: string
      readonly id: Digest | undefined
      readonly record?: ImageRecord
      readonly fault?: string
    }
  | {
      readonly kind: 'name'
      readonly path: string
      readonly name?: NameRecord
      readonly fault?: string
    }

/** Told of a file of the catalog that cannot be read: what it says is left out. */
export type OnDamage = (fault: Fault) => void

/** Names to put on an image, with the manifest and index behind them. */
export interface NewName {
  readonly name: string
  readonly index?: Digest | undefined
}

/** Shorter prefixes of an id would be taken for names too easily. */
const ID_PREFIX_LENGTH_MIN = 2

/**
 * Names to images: ROOT/images/names/HASH.json, one small file a name, and ROOT/images/records/HEX.json, one an image. Reading
 * takes no lock, for a file is there whole or not at all; changes hold `catalog.lock` for milliseconds. A record is written before
 * the names that lead to it and removed after them, so a crash between leaves an image without a name, never a name without image.
 */
export class Catalog {
  readonly #names: string
  readonly #records: string
  readonly #lock: string

  readonly #durable: boolean

  /** `directory` is ROOT/images. Without `durable` (tests) a change may be lost by a power cut. */
  constructor(directory: string, options: { durable?: boolean } = {}) {
    this.#durable = options.durable ?? true
    this.#names = join(directory, 'names')
    this.#records = join(directory, 'records')
    this.#lock = join(directory, 'catalog.lock')
    ensureDirectory(this.#names)
    ensureDirectory(this.#records)
  }

  /** Writes the image and points the names at it. Names that pointed elsewhere move. */
  async put(record: ImageRecord, names: readonly NewName[]): Promise<void> {
    using _lock = await this.#change()
    this.#write(this.#recordPath(record.id), record, `the record of image ${record.id}`)
    for (const { name, index } of names) {
      const value: NameRecord = {
        version: 1,
        name,
        id: record.id,
        manifest: record.manifest,
        ...(index === undefined ? {} : { index }),
      }
      this.#writeName(value, this.#durable ? 'content' : false)
    }
    if (this.#durable && names.length > 0) syncDirectory(this.#names)
  }

  /** Points one more name at an image. NOT_FOUND where it was removed meanwhile. */
  async tag(id: Digest, name: string): Promise<void> {
    using _lock = await this.#change()
    const record = this.#readRecord(id)
    if (record === undefined) throw new Fault('NOT_FOUND', `image ${id} is no longer here`)
    this.#writeName({ version: 1, name, id, manifest: record.manifest })
  }

  /**
   * Takes names away as `choose` decides of the image's present state, under the lock, and the image with them where it says so.
   * `choose` throws to refuse.
   */
  async remove(
    id: Digest,
    choose: (image: Image) => { names: readonly string[]; image: boolean },
  ): Promise<{ untagged: string[]; deleted: boolean }> {
    using _lock = await this.#change()
    const image = this.#image(id)
    if (image === undefined) throw new Fault('NOT_FOUND', `image ${id} is no longer here`)
    const choice = choose(image)
    for (const name of choice.names) rmSync(this.#namePath(name), { force: true })
    if (choice.names.length > 0) syncDirectory(this.#names)
    if (choice.image) {
      rmSync(this.#recordPath(id), { force: true })
      syncDirectory(this.#records)
    }
    return { untagged: [...choice.names], deleted: choice.image }
  }

  /**
   * Takes an image away with all its names, whatever state its record is in. False where there was nothing.
   */
  async removeWhole(id: Digest): Promise<{ untagged: string[]; deleted: boolean }> {
    using _lock = await this.#change()
    const untagged: string[] = []
    for (const record of this.#nameRecords(IGNORED)) {
      if (record.id === id) untagged.push(record.name)
    }
    for (const name of untagged) rmSync(this.#namePath(name), { force: true })
    if (untagged.length > 0) syncDirectory(this.#names)
    const deleted = this.#hasRecord(id)
    if (deleted) {
      rmSync(this.#recordPath(id), { force: true })
      syncDirectory(this.#records)
    }
    return { untagged: untagged.sort(), deleted }
  }

  /** All images, in the order of their ids. A damaged file is DATA_LOSS, or, with `onDamage`, told and left out. */
  list(onDamage?: OnDamage): Image[] {
    const names = new Map<string, NameRecord[]>()
    for (const record of this.#nameRecords(onDamage)) {
      const of = names.get(record.id)
      if (of === undefined) names.set(record.id, [record])
      else of.push(record)
    }
    const images: Image[] = []
    for (const file of readdirSync(this.#records).sort()) {
      if (file.includes(TEMPORARY)) continue
      const record = orDamage(() => readRecord(join(this.#records, file)), onDamage)
      // Removed since the directory was read.
      if (record === undefined) continue
      images.push(withNames(record, names.get(record.id) ?? []))
    }
    return images
  }

  /**
   * The image that a person means by a full id, a name, or a unique prefix of an id, in this order (docker's), with the name where
   * it was one, the manifest that the name stands for, and the index that this was chosen from. NOT_FOUND, or INVALID_ARGUMENT for a prefix of several. Its record is not
   * read: it may be damaged.
   */
  resolve(text: string): {
    id: Digest
    name: string | undefined
    manifest?: Digest
    index?: Digest | undefined
  } {
    const asId = digestIn(text) ?? digestIn(`sha256:${text}`)
    if (asId !== undefined) {
      if (this.#hasRecord(asId)) return { id: asId, name: undefined }
      throw new Fault('NOT_FOUND', `no image has the id ${asId}`)
    }
    const prefix = text.replace(/^sha(?:256|512):/, '')
    const isPrefix = /^[0-9a-f]+$/.test(prefix) && prefix.length >= ID_PREFIX_LENGTH_MIN
    if (prefix === text) {
      const found = this.#resolveName(text, isPrefix)
      if (found !== undefined) return found
    }
    if (isPrefix) {
      const ids = readdirSync(this.#records).filter(
        (file) => !file.includes(TEMPORARY) && file.startsWith(prefix),
      )
      const [first] = ids
      if (ids.length > 1) {
        throw new Fault(
          'INVALID_ARGUMENT',
          `${text} begins the ids of ${ids.length} images; give more of it`,
        )
      }
      const id = first === undefined ? undefined : idOfFile(first)
      // With an algorithm, only an id of that one.
      const isMeant = id !== undefined && (prefix === text || id.startsWith(text))
      if (isMeant) return { id, name: undefined }
    }
    throw new Fault('NOT_FOUND', `there is no image ${text} here`)
  }

  #resolveName(
    text: string,
    isPrefix: boolean,
  ): { id: Digest; name: string; manifest: Digest; index: Digest | undefined } | undefined {
    let name: string
    try {
      name = formatReference(parseReference(text))
    } catch (error) {
      if (isPrefix) return undefined
      throw error
    }
    const record = this.#readName(name)
    if (record !== undefined && this.#hasRecord(record.id)) {
      return { id: record.id, name, manifest: record.manifest, index: record.index }
    }
    // A short name may also be one of this host's own, as podman has it.
    return text.includes('/') ? undefined : this.#resolveName(`localhost/${text}`, isPrefix)
  }

  /** One image with its names. NOT_FOUND. */
  get(id: Digest): Image {
    const image = this.#image(id)
    if (image === undefined) throw new Fault('NOT_FOUND', `no image has the id ${id}`)
    return image
  }

  /** The image's record alone: one small read. */
  record(id: Digest): ImageRecord | undefined {
    return this.#readRecord(id)
  }

  /** Documents that names hold on to beyond those of the records: other manifests of an image, and indexes. */
  *documents(): Generator<{ id: Digest; manifest: Digest; index: Digest | undefined }> {
    for (const { id, manifest, index } of this.#nameRecords()) yield { id, manifest, index }
  }

  /** Every file of the catalog with what it says, or why that is nothing: for a check. */
  *files(): Generator<CatalogFile> {
    for (const file of readdirSync(this.#records)) {
      if (file.includes(TEMPORARY)) continue
      const path = join(this.#records, file)
      const read = attempt(() => readRecord(path))
      const id = idOfFile(file)
      if (read.fault !== undefined) yield { kind: 'record', path, id, fault: read.fault }
      else if (read.value === undefined) continue
      else if (read.value.id !== id)
        yield { kind: 'record', path, id, fault: 'it is of another image' }
      else yield { kind: 'record', path, id, record: read.value }
    }
    for (const file of readdirSync(this.#names)) {
      if (file.includes(TEMPORARY)) continue
      const path = join(this.#names, file)
      const read = attempt(() => readName(path))
      if (read.fault !== undefined) yield { kind: 'name', path, fault: read.fault }
      else if (read.value === undefined) continue
      else if (this.#namePath(read.value.name) !== path)
        yield { kind: 'name', path, fault: 'it holds another name' }
      else yield { kind: 'name', path, name: read.value }
    }
  }

  /** Removes a file that `files` found to be damaged. */
  async drop(file: CatalogFile): Promise<void> {
    using _lock = await this.#change()
    rmSync(file.path, { force: true })
    syncDirectory(file.kind === 'record' ? this.#records : this.#names)
  }

  /** Removes temporary files that a killed process left. */
  async clean(): Promise<void> {
    using _lock = await this.#change()
    for (const directory of [this.#names, this.#records]) {
      for (const file of readdirSync(directory)) {
        if (file.includes(TEMPORARY)) rmSync(join(directory, file), { force: true })
      }
    }
  }

  #change() {
    return lockFile(this.#lock, { exclusive: true })
  }

  /** Damage elsewhere in the catalog is no concern of this image's. */
  #image(id: Digest): Image | undefined {
    const record = this.#readRecord(id)
    if (record === undefined) return undefined
    return withNames(
      record,
      [...this.#nameRecords(IGNORED)].filter((name) => name.id === id),
    )
  }

  *#nameRecords(onDamage?: OnDamage): Generator<NameRecord> {
    for (const file of readdirSync(this.#names)) {
      if (file.includes(TEMPORARY)) continue
      const record = orDamage(() => readName(join(this.#names, file)), onDamage)
      if (record !== undefined) yield record
    }
  }

  #readName(name: string): NameRecord | undefined {
    return readName(this.#namePath(name))
  }

  #writeName(record: NameRecord, durable: boolean | 'content' = this.#durable): void {
    this.#write(this.#namePath(record.name), record, `the name ${record.name}`, durable)
  }

  #write(
    path: string,
    value: unknown,
    what: string,
    durable: boolean | 'content' = this.#durable,
  ): void {
    try {
      writeFileAtomic(path, JSON.stringify(value), { durable })
    } catch (error) {
      throw diskFault(error, what, dirname(path))
    }
  }

  #hasRecord(id: Digest): boolean {
    return existsSync(this.#recordPath(id))
  }

  #readRecord(id: Digest): ImageRecord | undefined {
    return readRecord(this.#recordPath(id))
  }

  /** A hash, since a name may be longer than a file's name and holds slashes; the file says the name. */
  #namePath(name: string): string {
    return join(this.#names, `${createHash('sha256').update(name).digest('hex').slice(0, 40)}.json`)
  }

  #recordPath(id: Digest): string {
    return join(this.#records, `${hexOf(id)}.json`)
  }
}

const IGNORED: OnDamage = () => undefined

/** What `read` reads; undefined where it is damaged and somebody wants to hear of it. */
function orDamage<T>(read: () => T | undefined, onDamage: OnDamage | undefined): T | undefined {
  try {
    return read()
  } catch (error) {
    if (onDamage === undefined || !(error instanceof Fault) || error.code !== 'DATA_LOSS')
      throw error
    onDamage(error)
    return undefined
  }
}

function attempt<T>(read: () => T): { value?: T; fault?: string } {
  try {
    return { value: read() }
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return { fault: error.message }
    throw error
  }
}

function withNames(record: ImageRecord, of: readonly NameRecord[]): Image {
  const isDigest = ({ name }: NameRecord): boolean => name.includes('@')
  const sorted = (names: readonly NameRecord[]) => names.map(({ name }) => name).sort()
  return {
    ...record,
    names: sorted(of.filter((name) => !isDigest(name))),
    repoDigests: sorted(of.filter(isDigest)),
  }
}

/** `HEX.json`: the two algorithms differ in length. */
function idOfFile(file: string): Digest | undefined {
  const hex = file.replace(/\.json$/, '')
  return digestIn(`sha256:${hex}`) ?? digestIn(`sha512:${hex}`)
}

function damaged(path: string): Fault {
  return new Fault('DATA_LOSS', `${path} is damaged: remove it and pull or load the image again`)
}

/** Our own file: only what the rest relies on is looked at. */
function readRecord(path: string): ImageRecord | undefined {
  const value = readJsonIfAny(path)
  if (value === undefined) return undefined
  const record = value as ImageRecord
  if (record === null || record.version !== 1 || digestIn(String(record.id)) === undefined) {
    throw damaged(path)
  }
  if (digestIn(String(record.manifest)) === undefined || !Array.isArray(record.diffIds)) {
    throw damaged(path)
  }
  return record
}

function readName(path: string): NameRecord | undefined {
  const value = readJsonIfAny(path)
  if (value === undefined) return undefined
  const record = value as NameRecord
  if (record === null || record.version !== 1 || typeof record.name !== 'string')
    throw damaged(path)
  if (digestIn(String(record.id)) === undefined) throw damaged(path)
  if (digestIn(String(record.manifest)) === undefined) throw damaged(path)
  return record
}
