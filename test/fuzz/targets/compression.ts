import { gzipSync } from 'node:zlib'
import { decompress, detectCompression } from '../../../src/layer/compress.ts'
import { LAYER_LIMITS } from '../../../src/layer/limits.ts'
import { PlainHash } from '../../../src/layer/plain-hash.ts'
import { ZstdFrames } from '../../../src/layer/zstd-frames.ts'
import { claim, orFault, orFaultLater, same, type Target } from '../target.ts'
import { ZSTD_SEEDS } from '../zstd-seeds.ts'

const LIMITS = {
  ...LAYER_LIMITS,
  totalBytes: 1024 * 1024,
  expansionFreeBytes: 64 * 1024,
  windowBytes: 1024 * 1024,
}

const words = ['\x28\xb5\x2f\xfd', '\x50\x2a\x4d\x18', '\x1f\x8b\x08\0', '\x37\xa4\x30\xec']

function frames(input: Buffer, pieceBytes: number): { value: string[] } | { code: string } {
  return orFault(() => {
    const walker = new ZstdFrames(LIMITS.windowBytes)
    const found: Buffer[][] = [[]]
    for (let at = 0; at < input.length; at += pieceBytes) {
      for (const { bytes, isLast } of walker.push(input.subarray(at, at + pieceBytes))) {
        found.at(-1)?.push(bytes)
        if (isLast) found.push([])
      }
    }
    walker.finish()
    return found.map((parts) => Buffer.concat(parts).toString('base64'))
  })
}

export const zstdFrames: Target = {
  run: (input) => {
    const bytes = input.subarray(1)
    const whole = frames(bytes, Math.max(bytes.length, 1))
    same(whole, frames(bytes, 1 + (input[0] ?? 0)), 'whole, and in pieces')
    if (!('value' in whole)) return
    const total = whole.value.reduce((sum, text) => sum + Buffer.from(text, 'base64').length, 0)
    claim(total <= bytes.length, 'more than came in')
  },
  seeds: ZSTD_SEEDS.map((seed) => Buffer.concat([Buffer.from([3]), seed])),
  words,
}

async function unpacked(
  input: Buffer,
  pieceBytes: number,
  hash?: PlainHash,
): Promise<{ value: string } | { code: string }> {
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for (let at = 0; at < input.length; at += pieceBytes) {
      yield Buffer.from(input.subarray(at, at + pieceBytes))
    }
  }
  return orFaultLater(async () => {
    const chunks: Buffer[] = []
    for await (const chunk of decompress(pieces(), LIMITS, hash)) {
      chunks.push(Buffer.from(chunk))
    }
    return Buffer.concat(chunks).toString('base64')
  })
}

export const compression: Target = {
  run: async (input) => {
    const bytes = input.subarray(1)
    const whole = await unpacked(bytes, Math.max(bytes.length, 1))
    same(whole, await unpacked(bytes, 1 + (input[0] ?? 0)), 'whole, and in pieces')
    const ahead = await unpacked(bytes, Math.max(bytes.length, 1), new PlainHash())
    same(whole, ahead, 'on the thread of its reader, and on one of its own')
    const isPlain = orFault(() => detectCompression(bytes))
    if ('value' in isPlain && isPlain.value === 'none' && 'value' in whole) {
      same(whole.value, bytes.toString('base64'), 'what is not compressed')
    }
  },
  seeds: [
    gzipSync('x'.repeat(1000)),
    Buffer.concat([gzipSync('a'), gzipSync('b')]),
    Buffer.concat([gzipSync('a'), Buffer.alloc(40)]),
    Buffer.from('plain'),
    ...ZSTD_SEEDS,
  ].map((seed) => Buffer.concat([Buffer.from([5]), seed])),
  words,
  bytesMax: 4096,
}
