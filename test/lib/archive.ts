import { rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  type LayerInfo,
  LayerStore,
  type UnpackOptions,
  unpackLayer,
} from '../../src/layer/index.ts'
import { testDirectory } from './traces.ts'

/** A tar entry by hand, with every lie that a hostile archive can tell. */
export interface RawEntry {
  name: string | Buffer
  type?: string
  link?: string | Buffer
  content?: string | Buffer
  /** What the header says; the content's real size by default. */
  size?: number
  mode?: number
  uid?: number
  gid?: number
  mtime?: number
  major?: number
  minor?: number
  /** Records of a PAX header before it. */
  pax?: [string, string | Buffer][]
  badSum?: boolean
  magic?: 'ustar' | 'gnu' | 'v7'
  /** Written over the finished header, before the checksum is made. */
  patch?: (block: Buffer) => void
}

export function header(entry: RawEntry): Buffer {
  const content = Buffer.from(entry.content ?? '')
  const block = Buffer.alloc(512)
  const octal = (value: number, at: number, length: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1')
  }
  Buffer.from(entry.name).copy(block, 0, 0, 100)
  octal(entry.mode ?? (entry.type === '5' ? 0o755 : 0o644), 100, 8)
  octal(entry.uid ?? 0, 108, 8)
  octal(entry.gid ?? 0, 116, 8)
  octal(entry.size ?? content.length, 124, 12)
  octal(entry.mtime ?? 1_000_000_000, 136, 12)
  block.write(entry.type ?? '0', 156, 'latin1')
  Buffer.from(entry.link ?? '').copy(block, 157, 0, 100)
  if (entry.magic !== 'v7') {
    block.write(entry.magic === 'gnu' ? 'ustar  \0' : 'ustar\x0000', 257, 'latin1')
    octal(entry.major ?? 0, 329, 8)
    octal(entry.minor ?? 0, 337, 8)
  }
  entry.patch?.(block)
  block.fill(' ', 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0) + (entry.badSum ? 1 : 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}

export function paxRecords(records: readonly [string, string | Buffer][]): Buffer {
  return Buffer.concat(
    records.map(([key, value]) => {
      const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
      let length = body.length + 1
      while (String(length).length + body.length !== length) length++
      return Buffer.concat([Buffer.from(String(length)), body])
    }),
  )
}

export function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)])
}

/** Entries as an archive, with its end. */
export function archive(...entries: RawEntry[]): Buffer {
  return Buffer.concat([...entries.map(entryBlocks), Buffer.alloc(1024)])
}

export function entryBlocks(entry: RawEntry): Buffer {
  const parts: Buffer[] = []
  if (entry.pax) {
    const content = paxRecords(entry.pax)
    parts.push(header({ name: 'pax', type: 'x', content }), padded(content))
  }
  parts.push(header(entry), padded(Buffer.from(entry.content ?? '')))
  return Buffer.concat(parts)
}

/** Each piece is only lent: its memory holds other bytes once the next one is asked for. */
export async function* chunked(bytes: Buffer, size = bytes.length): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) {
    const piece = Buffer.from(bytes.subarray(at, at + size))
    yield piece
    piece.fill(0xa5)
  }
}

/** A store in a directory of its own, gone with all that is in it at the end of the block. */
export class Scratch {
  readonly directory = testDirectory()
  readonly store = new LayerStore(join(this.directory, 'root'), { durable: false })

  async unpack(bytes: Buffer, options: Partial<UnpackOptions> = {}): Promise<LayerInfo> {
    return unpackLayer({ store: this.store, source: chunked(bytes), ...options })
  }

  /** Unpacks and gives the tree's path. */
  async tree(...entries: RawEntry[]): Promise<string> {
    return this.store.treePath((await this.unpack(archive(...entries))).diffId)
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** The fault that a promise ends in. */
export async function failure(
  promise: Promise<unknown>,
): Promise<{ code: string; message: string }> {
  try {
    await promise
  } catch (error) {
    if (error instanceof Error && 'code' in error) {
      return { code: String(error.code), message: error.message }
    }
    throw error
  }
  throw new Error('nothing failed')
}
