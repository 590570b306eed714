import { Header } from 'tar'
import { type ByteName, nameBytes } from './bytes.ts'
import type { SparsePiece } from './sparse.ts'
import { BLOCK } from './tar-header.ts'
import type { TarEntry, TarKind } from './tar-reader.ts'

const TYPES = {
  file: 'File',
  directory: 'Directory',
  symlink: 'SymbolicLink',
  hardlink: 'Link',
  character: 'CharacterDevice',
  block: 'BlockDevice',
  fifo: 'FIFO',
} as const satisfies Record<TarKind, string>

/** Values up to here fit the octal fields of a ustar header. */
const ID_MAX = 0o7777777
const SIZE_MAX = 0o77777777777
const TIME_MAX_NS = BigInt(SIZE_MAX) * 1_000_000_000n
const NAME_BYTES = 100

/** What the writer needs of an entry; the rest of TarEntry follows from it. */
export type WrittenEntry = Omit<TarEntry, 'dataSize' | 'sparse'>

/** The map of a file with holes in GNU's format 1.0: the content begins with it. Padded to whole blocks. */
export function sparseMap(pieces: readonly SparsePiece[]): Buffer {
  const numbers = [pieces.length, ...pieces.flatMap(({ offset, length }) => [offset, length])]
  const text = Buffer.from(`${numbers.join('\n')}\n`)
  return Buffer.concat([text, padding(text.length)])
}

/**
 * The header blocks of an entry: a ustar one, with a PAX one before it where a name, number, time or attribute does not fit. With `sparse` the
 * content is a map and the data, `sparse` bytes in all, of a file of `entry.size` bytes.
 */
export function encodeEntry(entry: WrittenEntry, sparse?: number): Buffer {
  const full = entry.kind === 'directory' ? `${entry.path}/` : entry.path
  const path = sparse === undefined ? full : `GNUSparseFile.0/${full}`
  const size = sparse ?? entry.size
  const records: Buffer[] = []
  const add = (key: string, value: Buffer | string): void => {
    records.push(paxRecord(key, typeof value === 'string' ? Buffer.from(value) : value))
  }
  if (sparse !== undefined) {
    add('GNU.sparse.major', '1')
    add('GNU.sparse.minor', '0')
    add('GNU.sparse.name', nameBytes(full))
    add('GNU.sparse.realsize', String(entry.size))
  } else if (!isPlainName(path)) add('path', nameBytes(path))
  if (!isPlainName(entry.link)) add('linkpath', nameBytes(entry.link))
  if (size > SIZE_MAX) add('size', String(size))
  if (entry.uid > ID_MAX) add('uid', String(entry.uid))
  if (entry.gid > ID_MAX) add('gid', String(entry.gid))
  const { mtimeNs } = entry
  const isPlainTime = mtimeNs % 1_000_000_000n === 0n && mtimeNs >= 0n && mtimeNs <= TIME_MAX_NS
  if (!isPlainTime) add('mtime', paxTime(mtimeNs))
  for (const [name, value] of entry.xattrs) add(`SCHILY.xattr.${name}`, value)
  const header = block({
    type: TYPES[entry.kind],
    path: plainName(path),
    linkpath: plainName(entry.link),
    mode: entry.mode,
    uid: entry.uid > ID_MAX ? 0 : entry.uid,
    gid: entry.gid > ID_MAX ? 0 : entry.gid,
    size: size > SIZE_MAX ? 0 : size,
    mtime: new Date(isPlainTime ? Number(mtimeNs / 1_000_000n) : 0),
    devmaj: entry.major,
    devmin: entry.minor,
  })
  if (records.length === 0) return header
  const content = Buffer.concat(records)
  const extension = block({
    type: 'ExtendedHeader',
    path: plainName(`PaxHeaders/${path}`),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: content.length,
    mtime: new Date(0),
  })
  return Buffer.concat([extension, content, padding(content.length), header])
}

/** Zeros up to the next block. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

/** Two blocks of zeros. */
export const END_OF_ARCHIVE = Buffer.alloc(2 * BLOCK)

// `tar`'s Header encodes numbers and checksum well; of names it is only given those that are the same in every encoding.
function block(fields: ConstructorParameters<typeof Header>[0]): Buffer {
  const header = new Header(fields)
  header.encode()
  if (!header.block) throw new TypeError('the header was not encoded')
  return header.block
}

function isPlainName(name: ByteName): boolean {
  return name.length < NAME_BYTES && /^[ -~]*$/.test(name)
}

/** A stand-in for readers that know no PAX; the slash at a directory's end stays. */
function plainName(name: ByteName): string {
  return isPlainName(name) ? name : name.replace(/[^ -~]/g, '_').slice(-(NAME_BYTES - 1))
}

function paxTime(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns
  const fraction = String(magnitude % 1_000_000_000n).padStart(9, '0')
  return `${ns < 0n ? '-' : ''}${magnitude / 1_000_000_000n}.${fraction}`
}

/** The length counts its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')])
  let length = body.length + 1
  while (String(length).length + body.length !== length)
    length = String(length).length + body.length
  return Buffer.concat([Buffer.from(String(length)), body])
}
