import zlib from 'node:zlib'
import { Fault, isErrno } from '../base/fault.ts'
import { binding, type Decoder, VERDICT } from '../kernel/binding.ts'
import type { LayerLimits } from './limits.ts'
import type { PlainHash } from './plain-hash.ts'
import { damaged } from './tar-header.ts'
import { type FramePart, ZstdFrames } from './zstd-frames.ts'

export type Compression = 'none' | 'gzip' | 'zstd'

/** What bytes of the beginning tell; 6 are enough. */
export const MAGIC_BYTES = 6

/** By the first bytes, as docker and containerd do: media types lie. A format that is known and not supported is refused by name. */
export function detectCompression(start: Uint8Array): Compression {
  const has = (...magic: number[]): boolean => magic.every((byte, i) => start[i] === byte)
  if (has(0x1f, 0x8b)) return 'gzip'
  if (has(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd'
  // zstd:chunked and pzstd begin with a skippable frame.
  if (
    ((start[0] ?? 0) & 0xf0) === 0x50 &&
    start[1] === 0x2a &&
    start[2] === 0x4d &&
    start[3] === 0x18
  )
    return 'zstd'
  if (has(0x42, 0x5a, 0x68)) throw unsupported('bzip2')
  if (has(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) throw unsupported('xz')
  return 'none'
}

function unsupported(name: string): Fault {
  return new Fault(
    'UNIMPLEMENTED',
    `cannot read the archive: it is compressed with ${name}; berth reads gzip, zstd and uncompressed ones`,
  )
}

/**
 * The decompressed bytes of a stream of any supported compression (several gzip members or zstd frames in a row included). A bomb is
 * RESOURCE_EXHAUSTED as soon as its ratio shows, a cut or damaged stream DATA_LOSS. A chunk is the consumer's until it asks for the next, and so is one of
 * the source ours.
 *
 * With `hash` the next chunk is made on a thread of its own while the consumer works on one, where the libraries for it are there; that thread
 * then hashes too, in the consumer's place. For large streams: two cores are busy, and each chunk changes between them.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  limits: LayerLimits,
  hash?: PlainHash,
): AsyncGenerator<Buffer> {
  const iterator = source[Symbol.asyncIterator]()
  let start: Buffer = Buffer.alloc(0)
  while (start.length < MAGIC_BYTES) {
    const next = await iterator.next()
    if (next.done) break
    const isFirst = start.length === 0
    // What is too short is copied: asking for the next piece gives its memory back.
    start =
      isFirst && next.value.length >= MAGIC_BYTES
        ? asBuffer(next.value)
        : Buffer.concat([start, next.value])
  }
  const meter = new Meter(limits)
  const input = counted(start, iterator, meter)
  const kind = detectCompression(start)
  const output =
    decodedAhead(input, kind, limits, hash) ??
    (kind === 'none' ? input : kind === 'gzip' ? gunzip(input) : unzstd(input, limits))
  for await (const chunk of output) {
    meter.out(chunk.length)
    yield chunk
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

async function* counted(
  start: Buffer,
  rest: AsyncIterator<Uint8Array>,
  meter: Meter,
): AsyncGenerator<Buffer> {
  try {
    meter.in(start.length)
    if (start.length > 0) yield start
    for (;;) {
      const next = await rest.next()
      if (next.done) return
      meter.in(next.value.length)
      yield asBuffer(next.value)
    }
  } finally {
    await rest.return?.()
  }
}

class Meter {
  readonly #limits: LayerLimits
  #in = 0
  #out = 0

  constructor(limits: LayerLimits) {
    this.#limits = limits
  }

  in(bytes: number): void {
    this.#in += bytes
  }

  out(bytes: number): void {
    this.#out += bytes
    const { totalBytes, expansion, expansionFreeBytes } = this.#limits
    if (this.#out > totalBytes) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `the archive is refused: it is larger than ${totalBytes} bytes`,
      )
    }
    if (this.#out > expansionFreeBytes && this.#out > this.#in * expansion) {
      throw new Fault(
        'RESOURCE_EXHAUSTED',
        `the archive is refused: ${this.#in} compressed bytes expand to more than ${this.#out}, a ratio above ${expansion}`,
      )
    }
  }
}

/** Decompressed bytes at a time. */
const OUTPUT_BYTES = 512 * 1024
/** The same where two threads take turns: what 512 KiB usually expand to, so that they wait for each other seldom. */
const AHEAD_BYTES = 2 * 1024 * 1024

/**
 * Whether libraries that are not part of Node are used where the machine has them: ISA-L for gzip, libzstd for zstd. Both are several times
 * faster; `BERTH_SYSTEM_LIBRARIES=no` does without.
 */
function mayUseLibraries(): boolean {
  return process.env['BERTH_SYSTEM_LIBRARIES'] !== 'no'
}

function gunzip(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder = binding.gzipDecoder(mayUseLibraries())
  if (!decoder) throw new Fault('INTERNAL', 'Node comes without zlib, and libz.so.1 is not there')
  return decoded(input, decoder, 'gzip')
}

const NOTHING = Buffer.alloc(0)

async function* decoded(
  input: AsyncIterable<Buffer>,
  decoder: Decoder,
  name: 'gzip' | 'zstd',
): AsyncGenerator<Buffer> {
  const output = Buffer.allocUnsafeSlow(OUTPUT_BYTES)
  const counts = new Float64Array(2)
  for await (const chunk of input) {
    let rest = chunk
    for (;;) {
      const verdict = binding.decode(decoder, rest, output, counts)
      if (verdict !== VERDICT.good) {
        throw refusal(verdict, binding.decoderState(decoder).reason, name)
      }
      const [taken = 0, made = 0] = counts
      if (made > 0) yield output.subarray(0, made)
      rest = taken === rest.length ? NOTHING : rest.subarray(taken)
      if (made < output.length && rest.length === 0) break
    }
  }
  if (!binding.decoderState(decoder).isWhole) throw cutOff(name)
}

/** Undefined where it cannot be done: then it is done without. */
function decodedAhead(
  input: AsyncIterable<Buffer>,
  kind: Compression,
  limits: LayerLimits,
  hash: PlainHash | undefined,
): AsyncGenerator<Buffer> | undefined {
  if (hash === undefined || kind === 'none') return undefined
  const opened = binding.openAhead(kind, mayUseLibraries(), windowLogOf(limits), AHEAD_BYTES)
  if (opened === undefined) return undefined
  hash.leave()
  return runAhead(input, kind, opened, hash)
}

async function* runAhead(
  input: AsyncIterable<Buffer>,
  kind: 'gzip' | 'zstd',
  { ahead, outputs }: NonNullable<ReturnType<typeof binding.openAhead>>,
  hash: PlainHash,
): AsyncGenerator<Buffer> {
  let ready: Buffer | undefined
  let which: 0 | 1 = 0
  for await (const chunk of input) {
    let fresh: Buffer | undefined = chunk
    for (;;) {
      const job = binding.decodeAhead(ahead, fresh, which)
      // It is awaited below, perhaps after more than one turn of the event loop.
      job.catch(() => undefined)
      try {
        if (ready !== undefined) yield ready
      } finally {
        // Also where the consumer asks for no more: the thread is never left behind.
        await job
      }
      const { verdict, made, left } = await job
      if (verdict !== VERDICT.good) throw refusal(verdict, binding.endAhead(ahead).reason, kind)
      ready = made > 0 ? outputs[which].subarray(0, made) : undefined
      which = which === 0 ? 1 : 0
      fresh = undefined
      if (made < AHEAD_BYTES && left === 0) break
    }
  }
  if (ready !== undefined) yield ready
  const { isWhole, sha256 } = binding.endAhead(ahead)
  if (!isWhole) throw cutOff(kind)
  hash.set(sha256)
}

function cutOff(name: 'gzip' | 'zstd'): Fault {
  return damaged(
    name === 'gzip'
      ? 'its gzip stream: unexpected end of file'
      : 'its zstd stream ends in the middle of a frame',
  )
}

function windowLogOf(limits: LayerLimits): number {
  return Math.floor(Math.log2(limits.windowBytes))
}

function refusal(verdict: number, reason: string, name: string): Fault {
  switch (verdict) {
    case VERDICT.window:
      return new Fault(
        'RESOURCE_EXHAUSTED',
        'the archive is refused: its zstd stream wants a larger window than allowed',
      )
    case VERDICT.dictionary:
      return new Fault(
        'UNIMPLEMENTED',
        'cannot read the archive: its zstd stream needs a dictionary',
      )
    case VERDICT.noMemory:
      return new Fault('RESOURCE_EXHAUSTED', 'there is no memory to decompress the archive')
    default:
      return damaged(`its ${name} stream: ${reason}`)
  }
}

/** A decompressing stream of Node as a generator; its errors are faults. */
async function* through(
  input: AsyncIterable<Buffer>,
  stream: zlib.Gunzip,
  name: string,
): AsyncGenerator<Buffer> {
  let failure: unknown
  let hasEnded = false
  let onClose: (() => void) | undefined
  stream.once('close', () => onClose?.())
  const feed = async (): Promise<void> => {
    try {
      for await (const chunk of input) {
        // What follows the last member is read all the same: the digest is over all bytes.
        if (hasEnded) continue
        if (stream.destroyed) return
        await new Promise<void>((resolve) => {
          // The callback of a write that fails inside zlib never comes; 'close' does.
          onClose = resolve
          stream.write(chunk, () => resolve())
        })
      }
      stream.end()
    } catch (error) {
      failure = error
      stream.destroy()
    }
  }
  const feeding = feed()
  try {
    for await (const chunk of stream) yield chunk
    hasEnded = true
  } catch (error) {
    if (failure === undefined) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new Fault('DATA_LOSS', `the archive is damaged: its ${name} stream: ${reason}`, {
        cause: error,
      })
    }
  } finally {
    stream.destroy()
    await feeding
  }
  if (failure !== undefined) throw failure
}

/** Without the machine's libzstd: Node has zstd from 22.15 on; before that fzstd, in JavaScript, does it. */
type CreateZstd = (options: { chunkSize: number; params: Record<number, number> }) => zlib.Gunzip

async function* unzstd(input: AsyncIterable<Buffer>, limits: LayerLimits): AsyncGenerator<Buffer> {
  const library = binding.zstdDecoder(mayUseLibraries(), windowLogOf(limits))
  if (library) {
    yield* decoded(input, library, 'zstd')
    return
  }
  const parts = frameParts(input, limits)
  const create: unknown = Reflect.get(zlib, 'createZstdDecompress')
  if (typeof create !== 'function') {
    yield* unzstdSlowly(parts)
    return
  }
  const windowLogMax: unknown = Reflect.get(zlib.constants, 'ZSTD_d_windowLogMax')
  const params: Record<number, number> = {}
  if (typeof windowLogMax === 'number') {
    params[windowLogMax] = Math.ceil(Math.log2(limits.windowBytes))
  }
  // Node's decoder stops at the end of the first frame without a word (seen with 22.23): each gets its own.
  for (let next = await parts.next(); !next.done; next = await parts.next()) {
    // Copied: a part is lent until the next one is asked for.
    const start = [Buffer.from(next.value.bytes)]
    let { isLast } = next.value
    // zstd:chunked has a frame for each file: making a stream for each of 100 000 would take a minute.
    for (let held = 0; !isLast && held < SMALL_FRAME_BYTES; ) {
      const more = await parts.next()
      if (more.done) break
      start.push(Buffer.from(more.value.bytes))
      held += more.value.bytes.length
      isLast = more.value.isLast
    }
    const whole = isLast ? decodeSmall(Buffer.concat(start), params) : undefined
    if (whole) {
      yield whole
      continue
    }
    const frame = async function* (): AsyncGenerator<Buffer> {
      yield* start
      while (!isLast) {
        const more = await parts.next()
        if (more.done) return
        yield more.value.bytes
        isLast = more.value.isLast
      }
    }
    const decoder = (create as CreateZstd)({ chunkSize: OUTPUT_BYTES, params })
    yield* through(frame(), decoder, 'zstd')
  }
}

const SMALL_FRAME_BYTES = 256 * 1024
const SMALL_OUTPUT_BYTES = 8 * 1024 * 1024

type DecodeZstd = (
  frame: Buffer,
  options: { maxOutputLength: number; params: Record<number, number> },
) => Buffer

/** A whole frame at once, or undefined where it is larger than it looks: then a stream shall decode it. */
function decodeSmall(frame: Buffer, params: Record<number, number>): Buffer | undefined {
  const decode: unknown = Reflect.get(zlib, 'zstdDecompressSync')
  if (typeof decode !== 'function') return undefined
  try {
    return (decode as DecodeZstd)(frame, { maxOutputLength: SMALL_OUTPUT_BYTES, params })
  } catch (error) {
    if (isErrno(error, 'ERR_BUFFER_TOO_LARGE')) return undefined
    throw damaged(`its zstd stream: ${error instanceof Error ? error.message : String(error)}`)
  }
}

async function* frameParts(
  input: AsyncIterable<Buffer>,
  limits: LayerLimits,
): AsyncGenerator<FramePart> {
  const frames = new ZstdFrames(limits.windowBytes)
  for await (const chunk of input) yield* frames.push(chunk)
  frames.finish()
}

/** fzstd handles a frame after the other by recursion: a piece this small holds too few frames to exhaust the stack. */
const FZSTD_PIECE_BYTES = 16 * 1024

async function* unzstdSlowly(input: AsyncIterable<FramePart>): AsyncGenerator<Buffer> {
  // Seldom needed, so that it is not loaded with every command.
  const { Decompress } = await import('fzstd')
  let out: Buffer[] = []
  const decoder = new Decompress((chunk) => {
    // Copied: the decoder goes on using its memory.
    if (chunk.length > 0) out.push(Buffer.from(chunk))
  })
  const run = (piece: Uint8Array, isLast: boolean): void => {
    try {
      decoder.push(piece, isLast)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw damaged(`its zstd stream: ${reason}`)
    }
  }
  for await (const { bytes: chunk } of input) {
    for (let at = 0; at < chunk.length; at += FZSTD_PIECE_BYTES) {
      run(Buffer.from(chunk.subarray(at, at + FZSTD_PIECE_BYTES)), false)
      const ready = out
      out = []
      yield* ready
    }
  }
  run(new Uint8Array(0), true)
  yield* out
}
