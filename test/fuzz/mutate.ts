/** Changes to inputs, as AFL and libFuzzer make them. */

/** xorshift32: the same inputs again from the same seed. */
export class Chance {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state % limit
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
}

const INTERESTING = [0, 1, 7, 16, 32, 63, 64, 100, 127, 128, 255, 256, 511, 512, 513, 1024, 4096]
const WIDE = [0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]
const STEPS_MAX = 6
const PIECE_BYTES_MAX = 64

/** A new input made of one that is known to lead somewhere; `other` is a second such. */
export function mutate(
  input: Buffer,
  other: Buffer,
  options: { chance: Chance; words: readonly string[]; bytesMax: number },
): Buffer {
  const { chance, words, bytesMax } = options
  let bytes: Buffer = Buffer.from(input)
  for (let steps = 1 + chance.below(STEPS_MAX); steps > 0; steps--) {
    bytes = change(bytes, other, chance, words)
  }
  return bytes.length > bytesMax ? bytes.subarray(0, bytesMax) : bytes
}

function change(bytes: Buffer, other: Buffer, chance: Chance, words: readonly string[]): Buffer {
  const at = chance.below(bytes.length + 1)
  const size = 1 + chance.below(chance.below(4) === 0 ? 1024 : PIECE_BYTES_MAX)
  const inside = bytes.length === 0 ? 0 : chance.below(bytes.length)
  switch (chance.below(words.length > 0 ? 12 : 10)) {
    case 0:
      if (bytes.length > 0) bytes[inside] = (bytes[inside] ?? 0) ^ (1 << chance.below(8))
      return bytes
    case 1:
      if (bytes.length > 0) bytes[inside] = chance.below(256)
      return bytes
    case 2:
      return numbered(bytes, inside, chance)
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + size)])
    case 4:
      return inserted(bytes, at, bytes.subarray(inside, inside + size))
    case 5:
      return inserted(bytes, at, Buffer.alloc(size, chance.below(256)))
    case 6:
      return overwritten(bytes, at, bytes.subarray(inside, inside + size))
    case 7: {
      const from = chance.below(other.length + 1)
      return inserted(bytes, at, other.subarray(from, from + size))
    }
    case 8:
      return Buffer.concat([bytes.subarray(0, at), other.subarray(chance.below(other.length + 1))])
    case 9:
      // A digit more or less, in whatever base.
      if (bytes.length > 0) bytes[inside] = 0x30 + chance.below(10)
      return bytes
    case 10:
      return inserted(bytes, at, Buffer.from(chance.of(words), 'latin1'))
    default:
      return overwritten(bytes, at, Buffer.from(chance.of(words), 'latin1'))
  }
}

function inserted(bytes: Buffer, at: number, piece: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)])
}

function overwritten(bytes: Buffer, at: number, piece: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + piece.length)])
}

function numbered(bytes: Buffer, at: number, chance: Chance): Buffer {
  const piece = Buffer.alloc(4)
  const value = chance.below(2) === 0 ? chance.of(INTERESTING) : chance.of(WIDE)
  if (chance.below(2) === 0) piece.writeUInt32LE(value)
  else piece.writeUInt32BE(value)
  const width = chance.of([1, 2, 4])
  return overwritten(
    bytes,
    at,
    chance.below(2) === 0 ? piece.subarray(0, width) : piece.subarray(-width),
  )
}
