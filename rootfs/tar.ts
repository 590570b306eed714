/**
 * Writes tar archives for the images of this repository and of its tests: entries are written as given, hostile names and
 * all, and the same entries always give the same bytes. Reading layers is the business of src/layer.
 */
export interface TarEntry {
  /** As it will stand in the archive; nothing is normalised. */
  readonly name: string | Uint8Array
  readonly type?: 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'directory' | 'fifo'
  readonly content?: string | Uint8Array
  /** Of links. */
  readonly to?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  /** Seconds since the epoch. */
  readonly mtime?: number
  readonly major?: number
  readonly minor?: number
  readonly xattrs?: Readonly<Record<string, string | Uint8Array>>
  /** Further PAX records, e.g. GNU.sparse.* or a lying size. */
  readonly pax?: Readonly<Record<string, string>>
  /** The size in the header, where it shall not be the content's. */
  readonly size?: number
}

const BLOCK = 512
const NAME_BYTES = 100
const TYPES = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const

export function tar(entries: readonly TarEntry[]): Buffer {
  // Two empty blocks end an archive.
  return Buffer.concat([...entries.flatMap(entryBlocks), Buffer.alloc(2 * BLOCK)])
}

function entryBlocks(entry: TarEntry): Buffer[] {
  const name = bytes(entry.name)
  const to = bytes(entry.to ?? '')
  const content = bytes(entry.content ?? '')
  const records = paxRecords(entry, name, to)
  const blocks: Buffer[] = []
  if (records.length > 0) {
    const body = Buffer.concat(records)
    blocks.push(
      header(bytes('pax'), bytes(''), { name: '', mode: 0o644 }, body.length, 'x'),
      padded(body),
    )
  }
  blocks.push(header(name, to, entry, entry.size ?? content.length, TYPES[entry.type ?? 'file']))
  if (content.length > 0) blocks.push(padded(content))
  return blocks
}

function paxRecords(entry: TarEntry, name: Buffer, to: Buffer): Buffer[] {
  const records: Buffer[] = []
  if (name.length > NAME_BYTES) records.push(record('path', name))
  if (to.length > NAME_BYTES) records.push(record('linkpath', to))
  for (const [key, value] of Object.entries(entry.xattrs ?? {})) {
    records.push(record(`SCHILY.xattr.${key}`, bytes(value)))
  }
  for (const [key, value] of Object.entries(entry.pax ?? {}))
    records.push(record(key, bytes(value)))
  return records
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function record(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length
  while (String(length).length + rest.length !== length)
    length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function header(name: Buffer, to: Buffer, entry: TarEntry, size: number, type: string): Buffer {
  const block = Buffer.alloc(BLOCK)
  name.copy(block, 0, 0, Math.min(name.length, NAME_BYTES))
  octal(block, 100, 8, entry.mode ?? (type === TYPES.directory ? 0o755 : 0o644))
  octal(block, 108, 8, entry.uid ?? 0)
  octal(block, 116, 8, entry.gid ?? 0)
  octal(block, 124, 12, size)
  octal(block, 136, 12, entry.mtime ?? 0)
  block.fill(' ', 148, 156)
  block.write(type, 156)
  to.copy(block, 157, 0, Math.min(to.length, NAME_BYTES))
  block.write('ustar\0', 257)
  block.write('00', 263)
  octal(block, 329, 8, entry.major ?? 0)
  octal(block, 337, 8, entry.minor ?? 0)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function octal(block: Buffer, offset: number, width: number, value: number): void {
  const digits = value.toString(8).padStart(width - 1, '0')
  if (digits.length < width) {
    block.write(digits, offset)
    return
  }
  // GNU's base-256 form, for what does not fit.
  block.writeBigUInt64BE(BigInt(value), offset + width - 8)
  block.writeUInt8(block.readUInt8(offset) | 0x80, offset)
}

function padded(content: Buffer): Buffer {
  const rest = content.length % BLOCK
  return rest === 0 ? content : Buffer.concat([content, Buffer.alloc(BLOCK - rest)])
}

function bytes(value: string | Uint8Array): Buffer {
  return Buffer.from(value)
}
