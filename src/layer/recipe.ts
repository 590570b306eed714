import { createReadStream, openSync, readSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { Fault, isErrno } from '../base/fault.ts'
import { writeStream } from '../base/stream-file.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_EMPTY_PATH,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  S_IFMT,
  S_IFREG,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, cleanPath, nameBytes } from './bytes.ts'
import { LAYER_LIMITS } from './limits.ts'
import { RESOLVE_PLAIN } from './lower.ts'
import { type TarEntry, TarReader, type TarSink } from './tar-reader.ts'
import { kernelName } from './tree.ts'

/**
 * A recipe makes a layer's archive of its tree again, byte for byte: all of the tar stream but the contents of files, and for these the name
 * in the tree. Without it an archive cannot be had from a tree, for order, dialect and padding of an archive are its maker's.
 *
 * The file is gzip of steps: `0` with a length (u32) and so many bytes as they are; `1` with the length of a path (u32), the path, and where in
 * the file to begin and how many bytes (u64 each). Numbers are little endian.
 */
const BYTES = 0
const CONTENT = 1
const CONTENT_NUMBERS = 16
const STEP_BYTES_MAX = 1024 * 1024
const READ_BYTES = 1024 * 1024

/** Opens what the tree holds at a path, if it is a file. */
function openContent(treeFd: number, path: ByteName): Fd | undefined {
  const name = cleanPath(path).parts.join('/')
  if (name === '') return undefined
  try {
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
    const file = new Fd(binding.openat2(treeFd, kernelName(name), flags, 0, RESOLVE_PLAIN))
    if ((binding.statx(file.number, '', AT_EMPTY_PATH).mode & S_IFMT) === S_IFREG) return file
    file.close()
    return undefined
  } catch (error) {
    // A link, a device without driver, a name that a later entry took away: its content travels in the recipe.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'ENAMETOOLONG'))
      return undefined
    throw error
  }
}

/** Follows an archive and finds what of it is the content of a file of the tree, comparing every byte. */
class Comparer implements TarSink {
  path: ByteName = ''
  readonly #treeFd: number
  #chunk: Buffer = Buffer.alloc(0)
  #file: Fd | undefined
  #at = 0

  constructor(treeFd: number) {
    this.#treeFd = treeFd
  }

  begin(chunk: Buffer): void {
    this.#chunk = chunk
  }

  entry(entry: TarEntry): void {
    this.#at = 0
    // The stream's bytes of a sparse file are not where its content is.
    if (entry.kind !== 'file' || entry.dataSize === 0 || entry.sparse !== undefined) return
    this.path = entry.path
    this.#file = openContent(this.#treeFd, entry.path)
  }

  data(piece: Buffer): void {
    if (this.#file === undefined) return
    const own = Buffer.allocUnsafe(piece.length)
    const isSame = readFully(this.#file.number, own, this.#at) && own.equals(piece)
    if (!isSame) {
      this.end()
      return
    }
    const start = piece.byteOffset - this.#chunk.byteOffset
    this.onFound(start, start + piece.length, this.#at)
    this.#at += piece.length
  }

  /** Replaced by whoever writes the recipe. */
  onFound: (start: number, end: number, at: number) => void = () => undefined

  end(): void {
    this.#file?.close()
    this.#file = undefined
  }
}

function readFully(fd: number, into: Buffer, at: number): boolean {
  for (let done = 0; done < into.length; ) {
    const count = readSync(fd, into, done, into.length - done, at + done)
    if (count === 0) return false
    done += count
  }
  return true
}

/** The steps that make the archive `chunks` (uncompressed) of the tree. */
async function* steps(tree: string, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const root = new Fd(openSync(tree, O_PATH | O_DIRECTORY))
  const comparer = new Comparer(root.number)
  let ready: Buffer[] = []
  let content: { path: ByteName; at: number; size: number } | undefined
  const endContent = (): void => {
    if (content !== undefined) ready.push(contentStep(content))
    content = undefined
  }
  try {
    const reader = new TarReader(comparer, LAYER_LIMITS)
    for await (const chunk of chunks) {
      let done = 0
      const raw = (end: number): void => {
        if (end === done) return
        endContent()
        ready.push(...bytesSteps(chunk.subarray(done, end)))
      }
      comparer.begin(chunk)
      comparer.onFound = (start, end, at) => {
        raw(start)
        if (content?.path === comparer.path && content.at + content.size === at) {
          content.size += end - start
        } else {
          endContent()
          content = { path: comparer.path, at, size: end - start }
        }
        done = end
      }
      reader.push(chunk)
      raw(chunk.length)
      const out = ready
      ready = []
      yield* out
    }
    endContent()
    yield* ready
  } finally {
    comparer.end()
    root.close()
  }
}

function* bytesSteps(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += STEP_BYTES_MAX) {
    const piece = bytes.subarray(at, at + STEP_BYTES_MAX)
    const head = Buffer.alloc(5)
    head.writeUInt8(BYTES, 0)
    head.writeUInt32LE(piece.length, 1)
    // Copied: the chunk is only lent.
    yield Buffer.concat([head, piece])
  }
}

function contentStep({ path, at, size }: { path: ByteName; at: number; size: number }): Buffer {
  const name = nameBytes(path)
  const head = Buffer.alloc(5)
  head.writeUInt8(CONTENT, 0)
  head.writeUInt32LE(name.length, 1)
  const numbers = Buffer.alloc(CONTENT_NUMBERS)
  numbers.writeBigUInt64LE(BigInt(at), 0)
  numbers.writeBigUInt64LE(BigInt(size), 8)
  return Buffer.concat([head, name, numbers])
}

/** Writes the recipe of an archive (its chunks uncompressed) beside its tree, atomically. */
export async function writeRecipe(
  path: string,
  tree: string,
  chunks: AsyncIterable<Buffer>,
  options: { durable: boolean },
): Promise<void> {
  const gzip = createGzip()
  const feeding = pipeline(steps(tree, chunks), gzip)
  // What fails there destroys the stream that is being written: that is where it is heard.
  feeding.catch(() => undefined)
  try {
    await writeStream(path, gzip, options)
  } finally {
    gzip.destroy()
  }
}

/** The archive, uncompressed, of tree and recipe. The caller verifies it: a changed tree gives other bytes, a cut recipe DATA_LOSS. */
export async function* cook(path: string, tree: string): AsyncGenerator<Buffer> {
  const root = new Fd(openSync(tree, O_PATH | O_DIRECTORY))
  const source = createReadStream(path)
  const plain = createGunzip()
  // Its failures come out of `plain`.
  const feeding = pipeline(source, plain)
  feeding.catch(() => undefined)
  try {
    const input = new Input(plain[Symbol.asyncIterator]())
    for (;;) {
      const head = await input.take(5, 'or end')
      if (head === undefined) return
      const length = head.readUInt32LE(1)
      if (length > STEP_BYTES_MAX) throw spoilt()
      const bytes = await input.take(length)
      if (head[0] === BYTES) yield bytes
      else if (head[0] === CONTENT) {
        const numbers = await input.take(CONTENT_NUMBERS)
        const at = Number(numbers.readBigUInt64LE(0))
        const size = Number(numbers.readBigUInt64LE(8))
        yield* contentOf(root.number, bytes.toString('latin1'), at, size)
      } else throw spoilt()
    }
  } catch (error) {
    if (error instanceof Fault || !isErrno(error, 'Z_DATA_ERROR', 'Z_BUF_ERROR')) throw error
    throw spoilt()
  } finally {
    plain.destroy()
    source.destroy()
    root.close()
  }
}

function* contentOf(treeFd: number, path: ByteName, from: number, size: number): Generator<Buffer> {
  using file = openContent(treeFd, path)
  if (file === undefined) throw spoilt()
  for (let done = 0; done < size; ) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, size - done))
    if (!readFully(file.number, chunk, from + done)) throw spoilt()
    done += chunk.length
    yield chunk
  }
}

function spoilt(): Fault {
  return new Fault(
    'DATA_LOSS',
    "a layer's archive cannot be made of its tree: one of them is damaged",
  )
}

/** So many bytes of a stream at a time. */
class Input {
  readonly #source: AsyncIterator<Buffer>
  #held: Buffer[] = []
  #size = 0

  constructor(source: AsyncIterator<Buffer>) {
    this.#source = source
  }

  take(size: number): Promise<Buffer>
  take(size: number, orEnd: 'or end'): Promise<Buffer | undefined>
  async take(size: number, orEnd?: 'or end'): Promise<Buffer | undefined> {
    while (this.#size < size) {
      const next = await this.#source.next()
      if (next.done) {
        if (orEnd !== undefined && this.#size === 0) return undefined
        throw spoilt()
      }
      this.#held.push(next.value)
      this.#size += next.value.length
    }
    // Once for all that has come: a step is longer than a chunk.
    const held = this.#held.length === 1 ? this.#held[0] : undefined
    const whole = held ?? Buffer.concat(this.#held, this.#size)
    this.#held = [whole.subarray(size)]
    this.#size -= size
    return whole.subarray(0, size)
  }
}
