import { constants, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { printable } from '../layer/bytes.ts'
import { decompress, detectCompression, MAGIC_BYTES } from '../layer/compress.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { BLOCK, decodeHeader, decodePax, isZeroBlock, type TarHeader } from '../layer/tar-header.ts'
import type { BlobStore, Scratch } from './blobs.ts'

/** Bytes of an archive, uncompressed. */
const ARCHIVE_BYTES_MAX = 512 * 1024 ** 3
const ARCHIVE_ENTRIES_MAX = 65_536
const EXTENSION_BYTES_MAX = 1024 * 1024
const NAME_BYTES_MAX = 4096
/** Links from one to the next inside an archive. */
const LINKS_MAX = 8
const CHUNK_BYTES = 1024 * 1024

/** Named files of an image archive or layout folder. Names are relative, without `.` and `..`. */
export interface Files {
  /** Bytes of a file; undefined where there is none. */
  size(name: string): Promise<number | undefined>
  chunks(name: string, offset: number): AsyncIterable<Uint8Array>
  readonly what: string
  [Symbol.asyncDispose](): Promise<void>
}

/** A small file whole; undefined where there is none. */
export async function readSmall(
  files: Files,
  name: string,
  bytesMax: number,
): Promise<Buffer | undefined> {
  const size = await files.size(name)
  if (size === undefined) return undefined
  if (size > bytesMax) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `${name} in ${files.what} has ${size} bytes; the limit is ${bytesMax}`,
    )
  }
  const chunks: Uint8Array[] = []
  for await (const chunk of files.chunks(name, 0)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

type Entry =
  | { readonly kind: 'file'; readonly offset: number; readonly size: number }
  | { readonly kind: 'link'; readonly target: string }

/**
 * Opens what a path or a stream holds: an OCI layout folder, or a tar archive of any supported compression. A plain archive on the disk
 * is read where it is; anything else is written, decompressed, to a scratch file first.
 */
export async function openFiles(
  blobs: BlobStore,
  source: string | AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<Files> {
  if (typeof source !== 'string') return openTar(await spool(blobs, source, signal), 'the archive')
  let isDirectory: boolean
  try {
    isDirectory = statSync(source).isDirectory()
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `there is no file ${source}`, { cause: error })
  }
  if (isDirectory) return new Folder(source)
  const file = await open(source, 'r')
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
    const isPlain = detectCompression(buffer.subarray(0, bytesRead)) === 'none'
    if (isPlain && (await file.stat()).isFile())
      return await openTar({ file, scratch: undefined }, source)
  } catch (error) {
    await file.close()
    // A pipe cannot be read at an offset: it is a stream.
    if (!isErrno(error, 'ESPIPE')) throw error
    return openTar(await spool(blobs, (await open(source, 'r')).createReadStream(), signal), source)
  }
  const stream = file.createReadStream({ start: 0, highWaterMark: CHUNK_BYTES })
  return openTar(await spool(blobs, stream, signal), source)
}

async function spool(
  blobs: BlobStore,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<{ file: FileHandle; scratch: Scratch }> {
  const scratch = await blobs.scratch()
  try {
    for await (const chunk of decompress(source, LAYER_LIMITS)) {
      signal?.throwIfAborted()
      scratch.write(chunk, ARCHIVE_BYTES_MAX)
    }
    return { file: await open(scratch.path, 'r'), scratch }
  } catch (error) {
    scratch[Symbol.dispose]()
    throw error
  }
}

async function openTar(
  from: { file: FileHandle; scratch: Scratch | undefined },
  what: string,
): Promise<Files> {
  try {
    return new Archive(from, await indexTar(from.file, what), what)
  } catch (error) {
    await from.file.close()
    from.scratch?.[Symbol.dispose]()
    throw error
  }
}

/** A name inside an archive as we look it up; one that leads out of the archive is refused. */
function cleanName(name: string, what: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) {
    throw new Fault('INVALID_ARGUMENT', `${what} is refused: ${printable(name)} leads out of it`)
  }
  return parts.join('/')
}

/** Where a symbolic link beside `name` leads: docker save of old wrote `../ID/layer.tar`. Out of the archive is refused. */
function linkTarget(name: string, link: string, what: string): string {
  const parts = link.startsWith('/') ? [] : name.split('/').slice(0, -1)
  for (const part of link.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `${what} is refused: the link ${printable(name)} leads out of it`,
      )
    }
  }
  return parts.join('/')
}

/** Reads the headers alone: contents stay where they are until someone asks. */
async function indexTar(file: FileHandle, what: string): Promise<Map<string, Entry>> {
  const { size: length } = await file.stat()
  const entries = new Map<string, Entry>()
  const block = Buffer.alloc(BLOCK)
  let path: string | undefined
  let link: string | undefined
  let paxSize: number | undefined
  let count = 0
  for (let at = 0; at + BLOCK <= length; ) {
    await readFully(file, block, at, what)
    at += BLOCK
    if (isZeroBlock(block)) break
    if (++count > ARCHIVE_ENTRIES_MAX) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `${what} holds more than ${ARCHIVE_ENTRIES_MAX} entries`,
      )
    }
    const header = decodeHeader(block)
    const hasContent = !'123456'.includes(header.type)
    const size = hasContent ? (paxSize ?? header.size) : 0
    if (!Number.isSafeInteger(size) || size < 0 || at + size > length) {
      throw new Fault(
        'DATA_LOSS',
        `${what} is cut off: ${printable(header.path)} should have ${size} bytes`,
      )
    }
    const next = at + Math.ceil(size / BLOCK) * BLOCK
    if ('xgLK'.includes(header.type)) {
      const body = await extension(file, at, header.size, what)
      if (header.type === 'L') path = untilNul(body)
      else if (header.type === 'K') link = untilNul(body)
      else {
        for (const { key, value } of decodePax(body)) {
          const isNaming = key === 'path' || key === 'linkpath' || key === 'size'
          if (isNaming && header.type === 'g') {
            throw new Fault(
              'INVALID_ARGUMENT',
              `${what} is refused: a global header names all its files`,
            )
          }
          if (key === 'path') path = value.toString('latin1')
          else if (key === 'linkpath') link = value.toString('latin1')
          else if (key === 'size') paxSize = decimal(value.toString('latin1'), what)
          else if (key.startsWith('GNU.sparse.')) throw sparse(what)
        }
      }
      at = at + Math.ceil(header.size / BLOCK) * BLOCK
      continue
    }
    addEntry(entries, header, {
      path: path ?? header.path,
      link: link ?? header.link,
      offset: at,
      size,
      what,
    })
    path = undefined
    link = undefined
    paxSize = undefined
    at = next
  }
  if (count === 0) throw new Fault('INVALID_ARGUMENT', `${what} is no image archive: it is empty`)
  return entries
}

function addEntry(
  entries: Map<string, Entry>,
  header: TarHeader,
  at: { path: string; link: string; offset: number; size: number; what: string },
): void {
  const { what } = at
  if (at.path.length > NAME_BYTES_MAX || at.link.length > NAME_BYTES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `a name in ${what} is longer than ${NAME_BYTES_MAX} bytes`,
    )
  }
  const name = cleanName(at.path, what)
  let entry: Entry
  if (header.type === '5') return
  if (header.type === '0' || header.type === '\0' || header.type === '7') {
    entry = { kind: 'file', offset: at.offset, size: at.size }
  } else if (header.type === '2') {
    entry = { kind: 'link', target: linkTarget(name, at.link, what) }
  } else if (header.type === '1') {
    entry = { kind: 'link', target: cleanName(at.link, what) }
  } else if (header.type === 'S') {
    throw sparse(what)
  } else {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${what} is refused: ${printable(name)} is no file, folder or link (type ${JSON.stringify(header.type)})`,
    )
  }
  // Two readers could take two different ones.
  if (entries.has(name)) {
    throw new Fault('INVALID_ARGUMENT', `${what} is refused: it holds ${printable(name)} twice`)
  }
  entries.set(name, entry)
}

function sparse(what: string): Fault {
  return new Fault('UNIMPLEMENTED', `${what} holds sparse files, which no image archive needs`)
}

function decimal(text: string, what: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(value)) return value
  throw new Fault('DATA_LOSS', `${what} is damaged: a size in it is no number`)
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0)
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end)
}

async function extension(
  file: FileHandle,
  at: number,
  size: number,
  what: string,
): Promise<Buffer> {
  if (size > EXTENSION_BYTES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `a header in ${what} has ${size} bytes; the limit is ${EXTENSION_BYTES_MAX}`,
    )
  }
  const bytes = Buffer.alloc(size)
  await readFully(file, bytes, at, what)
  return bytes
}

async function readFully(
  file: FileHandle,
  buffer: Buffer,
  at: number,
  what: string,
): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, at + done)
    if (bytesRead === 0) throw new Fault('DATA_LOSS', `${what} is cut off`)
    done += bytesRead
  }
}

async function* range(
  file: FileHandle,
  start: number,
  end: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end; ) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at))
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
    if (bytesRead === 0) throw new Fault('DATA_LOSS', `${what} is cut off`)
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

class Archive implements Files {
  readonly what: string
  readonly #file: FileHandle
  readonly #scratch: Scratch | undefined
  readonly #entries: ReadonlyMap<string, Entry>

  constructor(
    from: { file: FileHandle; scratch: Scratch | undefined },
    entries: ReadonlyMap<string, Entry>,
    what: string,
  ) {
    this.#file = from.file
    this.#scratch = from.scratch
    this.#entries = entries
    this.what = what
  }

  #find(name: string): { offset: number; size: number } | undefined {
    let at = cleanName(name, this.what)
    for (let links = 0; links <= LINKS_MAX; links++) {
      const entry = this.#entries.get(at)
      if (entry === undefined || entry.kind === 'file') return entry
      at = entry.target
    }
    throw new Fault(
      'INVALID_ARGUMENT',
      `${this.what} is refused: ${printable(name)} is a chain of links`,
    )
  }

  async size(name: string): Promise<number | undefined> {
    return this.#find(name)?.size
  }

  chunks(name: string, offset: number): AsyncIterable<Uint8Array> {
    const found = this.#find(name)
    if (found === undefined) throw missing(this.what, name)
    return range(this.#file, found.offset + offset, found.offset + found.size, this.what)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
    this.#scratch?.[Symbol.dispose]()
  }
}

/** NOT_FOUND of a file that an archive's own documents name. */
export function missing(what: string, name: string): Fault {
  return new Fault('NOT_FOUND', `${what} is not complete: it has no ${printable(name)}`)
}

class Folder implements Files {
  readonly what: string
  readonly #path: string

  constructor(path: string) {
    this.#path = path
    this.what = path
  }

  async #open(name: string): Promise<FileHandle | undefined> {
    try {
      // O_NONBLOCK: a FIFO among the blobs must not hold us.
      const flags = constants.O_RDONLY | constants.O_NONBLOCK
      const file = await open(join(this.#path, cleanName(name, this.what)), flags)
      if ((await file.stat()).isFile()) return file
      await file.close()
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
      return undefined
    }
    throw new Fault('INVALID_ARGUMENT', `${name} in ${this.what} is no file`)
  }

  async size(name: string): Promise<number | undefined> {
    const file = await this.#open(name)
    if (file === undefined) return undefined
    try {
      return (await file.stat()).size
    } finally {
      await file.close()
    }
  }

  async *chunks(name: string, offset: number): AsyncGenerator<Uint8Array> {
    const file = await this.#open(name)
    if (file === undefined) throw missing(this.what, name)
    try {
      yield* range(file, offset, (await file.stat()).size, `${name} in ${this.what}`)
    } finally {
      await file.close()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Files are opened one by one and closed again.
  }
}
