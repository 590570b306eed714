import { inflateRawSync, constants as zlib } from 'node:zlib'
import { Fault } from '../base/fault.ts'
import { HEADER_BYTES_MAX, HEADERS_MAX } from './limits.ts'
import { SPDY_DICTIONARY } from './spdy-dictionary.ts'

/** Names in lower case; of several values the first. */
export type SpdyHeaders = ReadonlyMap<string, string>

/** As far back as deflate can refer. */
const WINDOW_BYTES = 32 * 1024
/** RFC 1950: two bytes of header, then with FDICT the checksum of the dictionary. */
const ZLIB_HEADER_BYTES = 2
const ZLIB_DICTIONARY_BYTES = 4
const ZLIB_DEFLATE_32K = 0x78
const ZLIB_FDICT = 0x20

/**
 * Reads the blocks of headers of one connection. They are one zlib stream, which the sender flushes to a whole byte after each. So a block can be inflated on
 * its own, with what came before as its dictionary: at once, with a limit on what comes out, and with no inflater kept between two of them.
 */
export class HeaderReader {
  #window: Buffer = SPDY_DICTIONARY
  #begun = false

  read(block: Buffer): SpdyHeaders {
    const deflated = this.#begun ? block : withoutZlibHeader(block)
    this.#begun = true
    const plain = inflate(deflated, this.#window)
    this.#window = Buffer.concat([this.#window, plain]).subarray(-WINDOW_BYTES)
    return parse(plain)
  }
}

function withoutZlibHeader(block: Buffer): Buffer {
  const head = block.length < ZLIB_HEADER_BYTES ? 0 : block.readUInt16BE()
  if (head >> 8 !== ZLIB_DEFLATE_32K || head % 31 !== 0) throw broken('are no zlib stream')
  if ((head & ZLIB_FDICT) === 0) return block.subarray(ZLIB_HEADER_BYTES)
  const bytes = ZLIB_HEADER_BYTES + ZLIB_DICTIONARY_BYTES
  if (block.length < bytes) throw broken('are cut off')
  if (block.readUInt32BE(ZLIB_HEADER_BYTES) !== adler32(SPDY_DICTIONARY)) {
    throw broken('were written with another dictionary')
  }
  return block.subarray(bytes)
}

function inflate(deflated: Buffer, dictionary: Buffer): Buffer {
  try {
    return inflateRawSync(deflated, {
      dictionary,
      finishFlush: zlib.Z_SYNC_FLUSH,
      maxOutputLength: HEADER_BYTES_MAX,
      chunkSize: 1024,
    })
  } catch (error) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `the headers cannot be inflated into ${HEADER_BYTES_MAX} bytes at most`,
      { cause: error },
    )
  }
}

function parse(plain: Buffer): SpdyHeaders {
  let at = 0
  const number = (): number => {
    if (plain.length - at < 4) throw broken('are cut off')
    at += 4
    return plain.readUInt32BE(at - 4)
  }
  const text = (): string => {
    const length = number()
    if (plain.length - at < length) throw broken('are cut off')
    at += length
    return plain.toString('latin1', at - length, at)
  }
  const count = number()
  if (count > HEADERS_MAX) throw broken(`are more than ${HEADERS_MAX}`)
  const headers = new Map<string, string>()
  for (let i = 0; i < count; i++) {
    const name = text()
    const values = text()
    if (name === '' || name !== name.toLowerCase()) throw broken('have an invalid name')
    if (headers.has(name)) throw broken(`have a name twice`)
    headers.set(name, values.split('\0', 1)[0] ?? '')
  }
  if (at !== plain.length) throw broken('are followed by other bytes')
  return headers
}

function broken(what: string): Fault {
  return new Fault('INVALID_ARGUMENT', `the headers of a frame ${what}`)
}

/** RFC 1950, 8.2. Node offers no such sum. */
function adler32(data: Buffer): number {
  let a = 1
  let b = 0
  for (const byte of data) {
    a = (a + byte) % 65521
    b = (b + a) % 65521
  }
  return ((b << 16) | a) >>> 0
}

/** RFC 1951, 3.2.4: a stored block with the four bytes, then an empty one. Go's inflater gives out nothing before that, which is how a flush looks. */
const NO_HEADERS = Buffer.from([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])

/**
 * Our own blocks: a reply has no headers, which are four zero bytes. They go as stored blocks of deflate, behind a zlib header that names no dictionary the
 * first time: a valid stream without a deflater, which would hold 256 KiB for each connection.
 */
export class EmptyHeaderWriter {
  #begun = false

  write(): Buffer {
    if (this.#begun) return NO_HEADERS
    this.#begun = true
    return Buffer.concat([Buffer.from([ZLIB_DEFLATE_32K, 0x01]), NO_HEADERS])
  }
}
