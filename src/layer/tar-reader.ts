import { Fault } from '../base/fault.ts'
import { type ByteName, byteName, printable } from './bytes.ts'
import type { LayerLimits } from './limits.ts'
import { checkSparse, oldSparse, paxSparse, SparseMapText, type SparsePiece } from './sparse.ts'
import {
  BLOCK,
  boundTime,
  damaged,
  decodeHeader,
  decodePax,
  isZeroBlock,
  type PaxRecord,
  paxNumber,
  paxTimeNs,
  type TarHeader,
} from './tar-header.ts'

export type TarKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo'

/** One entry, as the archive states it: nothing of it is trusted. */
export interface TarEntry {
  readonly kind: TarKind
  readonly path: ByteName
  /** Target of a symbolic or hard link. */
  readonly link: ByteName
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: bigint
  /** Size of a file, holes included; 0 for the rest. */
  readonly size: number
  /** Bytes of content that follow: less than `size` for a sparse file. */
  readonly dataSize: number
  /** Where these bytes belong; undefined where the file has no holes. */
  readonly sparse: readonly SparsePiece[] | undefined
  readonly major: number
  readonly minor: number
  readonly xattrs: ReadonlyMap<ByteName, Buffer>
}

/** Takes what the reader finds, in the archive's order: entry, data…, end, entry, … A chunk is only lent. */
export interface TarSink {
  entry(entry: TarEntry): void
  data(chunk: Buffer): void
  end(): void
}

const KINDS: Readonly<Record<string, TarKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
}

const NO_XATTRS: ReadonlyMap<ByteName, Buffer> = new Map()

type State =
  /** Header blocks; `zero` after one block of zeros. */
  | 'header'
  | 'zero'
  /** Content of a PAX or GNU long name header. */
  | 'extension'
  /** Further blocks of an old GNU sparse header, or of the map of PAX sparse 1.0. */
  | 'sparse'
  | 'data'
  | 'padding'
  | 'done'

/**
 * A tar archive as a stream of chunks: POSIX ustar and pax, GNU, star and V7; GNU sparse files of all versions; extended attributes as
 * bytes. Where archives are ambiguous it reads as Go's archive/tar does, which made and checks nearly all container images.
 *
 * A PAX global header's owner and time count for what follows (POSIX; Go ignores them, git and GNU tar write none); one that renames,
 * resizes or labels all files is refused.
 */
export class TarReader {
  readonly #sink: TarSink
  readonly #limits: LayerLimits
  #state: State = 'header'
  /** Bytes of the block in the making. */
  #held: Buffer[] = []
  #heldBytes = 0
  #wanted = BLOCK
  /** Bytes of content, then of padding, that remain. */
  #remaining = 0
  #padding = 0
  #extension = ''
  #extensionBytes = 0
  #entries = 0

  // What extension headers say about the next entry.
  #longPath: ByteName | undefined
  #longLink: ByteName | undefined
  #local: PaxRecord[] | undefined
  #global: PaxRecord[] = []

  // A sparse file whose map is still being read.
  #sparseHeader: { header: TarHeader; pax: Pax; dataSize: number } | undefined
  #map: SparsePiece[] = []
  #mapText: SparseMapText | undefined

  constructor(sink: TarSink, limits: LayerLimits) {
    this.#sink = sink
    this.#limits = limits
  }

  /** Whether the archive's end was reached; what follows it is ignored, as in Go and GNU tar. */
  get isDone(): boolean {
    return this.#state === 'done'
  }

  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && this.#state !== 'done'; ) {
      if (this.#state === 'data' || this.#state === 'padding') {
        const count = Math.min(this.#remaining, chunk.length - at)
        if (this.#state === 'data' && count > 0) this.#sink.data(chunk.subarray(at, at + count))
        this.#remaining -= count
        at += count
        if (this.#remaining === 0) this.#finishContent()
        continue
      }
      const count = Math.min(this.#wanted - this.#heldBytes, chunk.length - at)
      const piece = chunk.subarray(at, at + count)
      at += count
      if (this.#heldBytes + count < this.#wanted) {
        // Copied: the caller may use its chunk again.
        this.#held.push(Buffer.from(piece))
        this.#heldBytes += count
      } else {
        const whole = this.#heldBytes === 0 ? piece : Buffer.concat([...this.#held, piece])
        this.#held = []
        this.#heldBytes = 0
        this.#block(whole)
      }
    }
  }

  /** The stream has ended. An archive without its two blocks of zeros is whole where an entry was. */
  finish(): void {
    if (this.#state === 'done' || this.#state === 'zero') return
    const between = this.#state === 'header' && this.#heldBytes === 0
    const pending = this.#local ?? this.#longPath ?? this.#longLink
    if (!between || pending !== undefined) {
      throw damaged('it ends in the middle of an entry (is the download or the file cut off?)')
    }
  }

  #block(block: Buffer): void {
    switch (this.#state) {
      case 'extension':
        this.#takeExtension(block)
        return
      case 'sparse':
        this.#takeSparse(block)
        return
      case 'zero':
        if (!isZeroBlock(block)) throw damaged('data follows a lone block of zeros')
        this.#state = 'done'
        return
      default:
        if (isZeroBlock(block)) this.#state = 'zero'
        else this.#header(decodeHeader(block), block)
    }
  }

  #header(header: TarHeader, block: Buffer): void {
    if ('xgLK'.includes(header.type)) {
      this.#startExtension(header)
      return
    }
    if (++this.#entries > this.#limits.entries) {
      throw tooMuch(`it has more than ${this.#limits.entries} entries`)
    }
    const pax = this.#takePax()
    const size = pax.size ?? header.size
    if (size < 0 || !Number.isSafeInteger(size)) throw damaged('an entry has a size below zero')
    if (header.type === 'S') {
      const old = oldSparse(block)
      this.#map = old.pieces
      this.#sparseHeader = { header, pax: { ...pax, realSize: old.realSize }, dataSize: size }
      if (old.extended) this.#expect('sparse', BLOCK)
      else this.#startSparse(size)
      return
    }
    if (pax.sparse === '1.0') {
      this.#mapText = new SparseMapText(this.#limits.sparsePieces)
      this.#sparseHeader = { header, pax, dataSize: size }
      // The padding counts from the header, not from the map's end: both are whole blocks.
      this.#expect('sparse', BLOCK)
      return
    }
    this.#start(header, pax, size, pax.sparse)
  }

  #start(
    header: TarHeader,
    pax: Pax,
    stated: number,
    sparse: readonly SparsePiece[] | undefined,
  ): void {
    const path = pax.path ?? this.#longPath ?? header.path
    const kind = kindOf(header, path)
    // As in Go: these have no content whatever their size field says.
    const dataSize = kind === 'file' ? stated : 0
    const size = kind === 'file' ? (sparse ? (pax.realSize ?? 0) : dataSize) : 0
    if (size > this.#limits.fileBytes) {
      throw tooMuch(`a file of ${size} bytes is larger than ${this.#limits.fileBytes}`)
    }
    if (sparse) checkSparse(sparse, { realSize: size, dataSize, max: this.#limits.sparsePieces })
    const entry: TarEntry = {
      kind,
      path,
      link: pax.link ?? this.#longLink ?? header.link,
      mode: header.mode,
      uid: pax.uid ?? header.uid,
      gid: pax.gid ?? header.gid,
      mtimeNs: pax.mtimeNs ?? boundTime(BigInt(header.mtimeSeconds) * 1_000_000_000n),
      size,
      dataSize,
      sparse,
      major: header.major,
      minor: header.minor,
      xattrs: pax.xattrs,
    }
    this.#longPath = undefined
    this.#longLink = undefined
    this.#checkNames(entry)
    this.#sink.entry(entry)
    this.#startContent(dataSize)
  }

  #checkNames({ path, link }: TarEntry): void {
    if (path === '') throw damaged('an entry has no name')
    const max = this.#limits.pathBytes
    if (path.length > max) throw tooMuch(`a path is longer than ${max} bytes`)
    if (link.length > max) throw tooMuch(`a link's target is longer than ${max} bytes`)
    if (path.includes('\0') || link.includes('\0')) throw damaged('a name holds a NUL byte')
  }

  #startContent(dataSize: number): void {
    this.#padding = (BLOCK - (dataSize % BLOCK)) % BLOCK
    this.#remaining = dataSize
    this.#state = 'data'
    if (dataSize === 0) this.#finishContent()
  }

  #finishContent(): void {
    if (this.#state === 'data') {
      this.#sink.end()
      this.#state = 'padding'
      this.#remaining = this.#padding
    }
    if (this.#remaining === 0) this.#expect('header', BLOCK)
  }

  #expect(state: State, bytes: number): void {
    this.#state = state
    this.#wanted = bytes
  }

  #startExtension(header: TarHeader): void {
    const max = this.#limits.headerBytes
    if (header.size < 0) throw damaged('an extended header has a size below zero')
    if (header.size > max) throw tooMuch(`an extended header is longer than ${max} bytes`)
    // Each is an entry of its own to a reader: an endless row of them must end too.
    if (++this.#entries > this.#limits.entries) {
      throw tooMuch(`it has more than ${this.#limits.entries} entries`)
    }
    this.#extension = header.type
    this.#extensionBytes = header.size
    if (header.size === 0) this.#takeExtension(Buffer.alloc(0))
    else this.#expect('extension', Math.ceil(header.size / BLOCK) * BLOCK)
  }

  #takeExtension(block: Buffer): void {
    const content = block.subarray(0, this.#extensionBytes)
    this.#expect('header', BLOCK)
    switch (this.#extension) {
      case 'x':
        this.#local = decodePax(Buffer.from(content))
        return
      case 'g':
        this.#global = decodePax(Buffer.from(content)).filter(isUsedGlobally)
        return
      default: {
        const end = content.indexOf(0)
        const name = byteName(end < 0 ? content : content.subarray(0, end))
        if (this.#extension === 'L') this.#longPath = name
        else this.#longLink = name
      }
    }
  }

  #takePax(): Pax {
    if (this.#local === undefined && this.#global.length === 0) return NO_PAX
    const pax = paxOf([...this.#global, ...(this.#local ?? [])], this.#limits)
    this.#local = undefined
    return pax
  }

  #takeSparse(block: Buffer): void {
    const pending = this.#sparseHeader
    if (!pending) throw damaged('a sparse map without a file')
    if (pending.pax.sparse !== '1.0') {
      const more = oldSparse(block, true)
      this.#map.push(...more.pieces)
      this.#limitMap(this.#map.length)
      if (!more.extended) this.#startSparse(pending.dataSize)
      return
    }
    pending.dataSize -= BLOCK
    if (pending.dataSize < 0) throw damaged('a sparse map is longer than its file')
    const map = this.#mapText?.push(block)
    if (!map) return
    this.#mapText = undefined
    this.#map = map
    this.#startSparse(pending.dataSize)
  }

  #limitMap(pieces: number): void {
    const max = this.#limits.sparsePieces
    if (pieces > max) throw tooMuch(`a sparse file has more than ${max} pieces`)
  }

  #startSparse(dataSize: number): void {
    const pending = this.#sparseHeader
    if (!pending) throw damaged('a sparse map without a file')
    this.#sparseHeader = undefined
    this.#start(pending.header, pending.pax, dataSize, this.#map)
    this.#map = []
  }
}

function kindOf(header: TarHeader, path: ByteName): TarKind {
  const kind = KINDS[header.type]
  if (kind === undefined) {
    throw new Fault(
      'UNIMPLEMENTED',
      `cannot read the archive: an entry is of type "${printable(header.type)}", which no container image has`,
    )
  }
  // V7 had no directories: a name that ends in a slash was one.
  return header.type === '\0' && path.endsWith('/') ? 'directory' : kind
}

/** What PAX records say about one entry. */
interface Pax {
  readonly path?: ByteName
  readonly link?: ByteName
  readonly size?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtimeNs?: bigint
  readonly realSize?: number
  readonly sparse?: '1.0' | SparsePiece[]
  readonly xattrs: ReadonlyMap<ByteName, Buffer>
}
type Writable<T> = { -readonly [K in keyof T]: T[K] }

const NO_PAX: Pax = { xattrs: NO_XATTRS }

const GLOBAL_USED = new Set(['uid', 'gid', 'mtime'])
const GLOBAL_REFUSED =
  /^(path|linkpath|size|GNU\.sparse\..*|SCHILY\.xattr\..*|LIBARCHIVE\.xattr\..*)$/

function isUsedGlobally({ key }: PaxRecord): boolean {
  if (GLOBAL_REFUSED.test(key)) {
    throw new Fault(
      'UNIMPLEMENTED',
      `cannot read the archive: a global PAX header sets ${printable(key)} for all entries`,
    )
  }
  return GLOBAL_USED.has(key)
}

function paxOf(records: readonly PaxRecord[], limits: LayerLimits): Pax {
  const pax: Writable<Pax> = { xattrs: NO_XATTRS }
  const xattrs = new Map<ByteName, Buffer>()
  for (const record of records) {
    const { key, value } = record
    const xattr = xattrOf(record)
    if (xattr) {
      xattrs.set(xattr.name, xattr.value)
      checkXattr(xattr, xattrs.size, limits)
      continue
    }
    // POSIX: an empty value takes back what came before.
    if (value.length === 0) continue
    if (key === 'path') pax.path = byteName(value)
    else if (key === 'linkpath') pax.link = byteName(value)
    else if (key === 'size') pax.size = paxNumber(record)
    else if (key === 'uid') pax.uid = paxNumber(record)
    else if (key === 'gid') pax.gid = paxNumber(record)
    else if (key === 'mtime') pax.mtimeNs = paxTimeNs(value)
  }
  const sparse = paxSparse(records, limits.sparsePieces)
  if (sparse) {
    pax.sparse = sparse.map
    pax.realSize = sparse.realSize
    if (sparse.name !== undefined) pax.path = byteName(sparse.name)
  }
  if (xattrs.size > 0) pax.xattrs = xattrs
  return pax
}

const SCHILY = 'SCHILY.xattr.'
const LIBARCHIVE = 'LIBARCHIVE.xattr.'

interface Xattr {
  readonly name: ByteName
  readonly value: Buffer
}

function xattrOf({ key, value }: PaxRecord): Xattr | undefined {
  if (key.startsWith(SCHILY)) return { name: key.slice(SCHILY.length), value }
  if (!key.startsWith(LIBARCHIVE)) return undefined
  // libarchive: the name in URL encoding, the value in base64.
  const name = key
    .slice(LIBARCHIVE.length)
    .replace(/%([0-9a-fA-F]{2})/g, (_, code: string) => String.fromCharCode(parseInt(code, 16)))
  return { name, value: Buffer.from(value.toString('latin1'), 'base64') }
}

function checkXattr({ name, value }: Xattr, count: number, limits: LayerLimits): void {
  if (name === '' || name.includes('\0')) throw damaged('an extended attribute has no proper name')
  if (count > limits.xattrs) {
    throw tooMuch(`an entry has more than ${limits.xattrs} extended attributes`)
  }
  if (name.length > limits.xattrNameBytes) {
    throw tooMuch(`an extended attribute's name is longer than ${limits.xattrNameBytes} bytes`)
  }
  if (value.length > limits.xattrValueBytes) {
    throw tooMuch(
      `the extended attribute ${printable(name)} is longer than ${limits.xattrValueBytes} bytes`,
    )
  }
}

function tooMuch(reason: string): Fault {
  return new Fault('RESOURCE_EXHAUSTED', `the archive is refused: ${reason}`)
}
