import { Fault } from '../base/fault.ts'
import { type ByteName, byteName, printable } from './bytes.ts'

/**
 * One 512-byte header block of a tar archive, as bytes.
 *
 * Not with the `tar` package's Header, which decodes names as UTF-8, reads no device numbers from headers of the GNU format (a device would
 * become 0:0, which is a whiteout to overlayfs) and gives a file whose name ends in a slash the size 0, unlike Go's reader that made and checks all
 * container images: two readers that disagree on where the next header is are an attack.
 */
export interface TarHeader {
  readonly type: string
  readonly path: ByteName
  readonly link: ByteName
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly mtimeSeconds: number
  readonly major: number
  readonly minor: number
  readonly format: 'v7' | 'ustar' | 'star' | 'gnu'
}

export const BLOCK = 512

export function damaged(reason: string): Fault {
  return new Fault('DATA_LOSS', `the archive is damaged: ${reason}`)
}

/** Whether the block is all zero: the mark of the end. */
export function isZeroBlock(block: Uint8Array): boolean {
  for (let i = 0; i < BLOCK; i++) if (block[i] !== 0) return false
  return true
}

export function decodeHeader(block: Buffer): TarHeader {
  checkSum(block)
  const format = formatOf(block)
  let path = textField(block, 0, 100)
  if (format === 'ustar' || format === 'star') {
    const prefix = textField(block, 345, format === 'ustar' ? 155 : 131)
    if (prefix !== '') path = `${prefix}/${path}`
  }
  const hasDevices = format !== 'v7'
  return {
    type: String.fromCharCode(block[156] ?? 0),
    path,
    link: textField(block, 157, 100),
    mode: number(block, 100, 8, 'mode') & 0o7777,
    uid: number(block, 108, 8, 'uid'),
    gid: number(block, 116, 8, 'gid'),
    size: number(block, 124, 12, 'size'),
    mtimeSeconds: number(block, 136, 12, 'mtime'),
    major: hasDevices ? number(block, 329, 8, 'devmajor') : 0,
    minor: hasDevices ? number(block, 337, 8, 'devminor') : 0,
    format,
  }
}

function formatOf(block: Buffer): TarHeader['format'] {
  const magic = block.toString('latin1', 257, 265)
  if (magic === 'ustar  \0') return 'gnu'
  if (magic.slice(0, 6) !== 'ustar\0') return 'v7'
  return block.toString('latin1', 508, 512) === 'tar\0' ? 'star' : 'ustar'
}

/** POSIX sums unsigned bytes; some old programs summed signed ones, and all readers take both. */
function checkSum(block: Buffer): void {
  let unsigned = 0
  let signed = 0
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0)
    unsigned += byte
    signed += byte < 128 ? byte : byte - 256
  }
  const stated = number(block, 148, 8, 'checksum')
  if (stated !== unsigned && stated !== signed) {
    throw damaged('a header has a wrong checksum, or this is no tar archive')
  }
}

export function textField(block: Buffer, offset: number, length: number): ByteName {
  const end = block.indexOf(0, offset)
  return byteName(block.subarray(offset, end < 0 || end > offset + length ? offset + length : end))
}

/** Octal text, or base-256 (GNU, star) for what does not fit. */
export function number(block: Buffer, offset: number, length: number, field: string): number {
  const first = block[offset] ?? 0
  if ((first & 0x80) !== 0) return base256(block, offset, length, field)
  let start = offset
  let end = offset + length
  while (start < end && isBlank(block[start])) start++
  while (end > start && isBlank(block[end - 1])) end--
  let value = 0
  for (let i = start; i < end; i++) {
    const byte = block[i] ?? 0
    // What follows a NUL is not part of the number.
    if (byte === 0) break
    if (byte < 0x30 || byte > 0x37) {
      const text = printable(byteName(block.subarray(offset, offset + length)))
      throw damaged(`its header field ${field} is no number: "${text}"`)
    }
    value = value * 8 + (byte - 0x30)
  }
  return value
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0
}

function base256(block: Buffer, offset: number, length: number, field: string): number {
  const negative = ((block[offset] ?? 0) & 0x40) !== 0
  let value = 0n
  for (let i = 0; i < length; i++) {
    let byte = block[offset + i] ?? 0
    if (i === 0) byte &= 0x7f
    value = (value << 8n) | BigInt(byte)
  }
  if (negative) value -= 1n << BigInt(length * 8 - 1)
  const result = Number(value)
  if (!Number.isSafeInteger(result)) throw damaged(`its header field ${field} is out of range`)
  return result
}

/** One record of a PAX header. The value is bytes: security.capability is binary. */
export interface PaxRecord {
  readonly key: string
  readonly value: Buffer
}

/** "%d %s=%s\n" of POSIX pax; the length counts the whole record. */
export function decodePax(bytes: Buffer): PaxRecord[] {
  const records: PaxRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    let length = 0
    let i = at
    for (; i < bytes.length && i - at <= 8; i++) {
      const digit = (bytes[i] ?? 0) - 0x30
      if (digit < 0 || digit > 9) break
      length = length * 10 + digit
    }
    // Some writers pad with NUL to the end.
    if (i === at && bytes[at] === 0 && isZero(bytes, at)) break
    const end = at + length
    const equals = bytes.indexOf(0x3d, i)
    if (bytes[i] !== 0x20 || i === at || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw damaged('a PAX header has a record of a wrong length')
    }
    if (equals < 0 || equals >= end || equals === i + 1) {
      throw damaged('a PAX header has a record without a key')
    }
    records.push({
      key: bytes.toString('latin1', i + 1, equals),
      value: bytes.subarray(equals + 1, end - 1),
    })
    at = end
  }
  return records
}

function isZero(bytes: Uint8Array, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}

/** A decimal number of seconds, with a fraction, as nanoseconds. */
export function paxTimeNs(value: Buffer): bigint {
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(value.toString('latin1'))
  if (!match) throw damaged(`a PAX time is no number: "${printable(byteName(value))}"`)
  const [, sign, seconds = '0', fraction = ''] = match
  const ns = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'))
  return boundTime(sign === '-' ? -ns : ns)
}

const TIME_NS_MAX = 2n ** 63n - 1n

/** Times beyond 64 bits of nanoseconds (year 2262) become the epoch, as in containerd. */
export function boundTime(ns: bigint): bigint {
  return ns > TIME_NS_MAX || ns < -TIME_NS_MAX ? 0n : ns
}

export function paxNumber(record: PaxRecord): number {
  const text = record.value.toString('latin1')
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) {
    throw damaged(`the PAX record ${printable(record.key)} is no number in range`)
  }
  return value
}
