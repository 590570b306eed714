import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { constants, gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding, type Decoder, VERDICT } from '../../../src/kernel/binding.ts'
import { needing } from '../../lib/needs.ts'
import { Random } from '../../lib/random.ts'

const OUTPUT = Buffer.alloc(1 << 20)

/** Decodes in pieces of the sizes that `next` gives, for input and output; undefined for what is refused or cut off. */
function decode(
  decoder: Decoder | undefined,
  bytes: Buffer,
  next: () => { input: number; output: number },
): Buffer | undefined {
  if (!decoder) throw new Error('no decoder')
  const parts: Buffer[] = []
  const counts = new Float64Array(2)
  for (let at = 0, isFull = false; at < bytes.length || isFull; ) {
    const { input, output: room } = next()
    const output = OUTPUT.subarray(0, room)
    const verdict = binding.decode(decoder, bytes.subarray(at, at + input), output, counts)
    if (verdict !== VERDICT.good) return undefined
    const [taken = 0, made = 0] = counts
    if (made > 0) parts.push(Buffer.from(output.subarray(0, made)))
    at += taken
    isFull = made === room
  }
  return binding.decoderState(decoder).isWhole ? Buffer.concat(parts) : undefined
}

const whole = () => ({ input: 1 << 20, output: 1 << 20 })

/** What is stored, of literals, of short and long distances, and of one repeated byte. */
function samples(): Buffer[] {
  const random = randomFillSync(Buffer.alloc(40_000))
  const words = Array.from({ length: 9000 }, (_, i) =>
    createHash('md5')
      .update(String(i % 700))
      .digest('hex')
      .slice(0, i % 20),
  )
  const long = Buffer.concat([random.subarray(0, 32_768), random.subarray(0, 32_768)])
  return [Buffer.alloc(0), random, Buffer.from(words.join(' ')), long, Buffer.alloc(300_000, 7)]
}

function streams(): { packed: Buffer; plain: Buffer }[] {
  const { Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED, Z_DEFAULT_STRATEGY } = constants
  return samples().flatMap((plain) =>
    [0, 1, 6, 9].flatMap((level) =>
      [Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED].map((strategy) => ({
        packed: gzipSync(plain, { level, strategy }),
        plain,
      })),
    ),
  )
}

const FHCRC = 2

/** The member with a header that has these fields (RFC 1952, 2.3.1). */
function withHeader(flags: number, member: Buffer): Buffer {
  const parts = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3])]
  if (flags & 4) parts.push(Buffer.from([3, 0, 7, 8, 9]))
  if (flags & 8) parts.push(Buffer.from('name\0'))
  if (flags & 16) parts.push(Buffer.from('comment\0'))
  // The end of a gzip of the same bytes has their checksum.
  if (flags & FHCRC) parts.push(gzipSync(Buffer.concat(parts)).subarray(-8, -6))
  return Buffer.concat([...parts, member.subarray(10)])
}

const LIBRARIES = [
  { name: 'ISA-L', extra: true, test: needing(test, 'library:libisal.so.2') },
  { name: 'zlib', extra: false, test },
]
for (const { name, extra, test } of LIBRARIES) {
  const open = (): Decoder | undefined => binding.gzipDecoder(extra)

  test(`${name} is the library at work`, () => {
    const decoder = open()
    assert.is(decoder && binding.decoderState(decoder).library, name)
  })

  test(`${name} gives back what any setting of zlib has packed, members in a row`, () => {
    for (const { packed, plain } of streams()) {
      assert.ok(decode(open(), packed, whole)?.equals(plain))
    }
    const all = streams()
    const packed = Buffer.concat(all.map(({ packed }) => packed))
    const plain = Buffer.concat(all.map(({ plain }) => plain))
    assert.ok(decode(open(), packed, whole)?.equals(plain))
  })

  test(`${name} does so however input and output are cut`, () => {
    const random = new Random(7)
    const some = streams().filter((_, i) => i % 7 === 0)
    for (const { packed, plain } of some) {
      const two = Buffer.concat([packed, packed])
      for (const [input, output] of [
        [1, 70_000],
        [7, 3300],
        [9000, 257],
        [100_000, 1000],
      ] as const) {
        const next = () => ({ input: random.between(1, input), output: random.between(1, output) })
        assert.ok(decode(open(), two, next)?.equals(Buffer.concat([plain, plain])))
      }
    }
  })

  test(`${name} reads headers with every field, and verifies their checksum, however they are cut`, () => {
    const plain = Buffer.from('of the header')
    for (let flags = 0; flags < 0x20; flags++) {
      const packed = withHeader(flags, gzipSync(plain))
      const damaged = Buffer.from(packed)
      damaged[4] = 9 // The time: nothing but the header's checksum tells.
      for (let input = 1; input < 16; input++) {
        const cut = () => ({ input, output: 1 << 20 })
        assert.ok(decode(open(), packed, cut)?.equals(plain), `flags ${flags}, by ${input}`)
        assert.is(decode(open(), damaged, cut) === undefined, (flags & FHCRC) !== 0)
        assert.is(decode(open(), withHeader(flags | 0x20, packed), cut), undefined)
      }
    }
  })

  test(`${name} refuses or gives the same, whatever byte is damaged; and every cut`, () => {
    const plain = Buffer.from('some text that is packed, some text that is packed. '.repeat(20))
    const packed = gzipSync(plain)
    for (let at = 0; at < packed.length; at++) {
      assert.is(decode(open(), packed.subarray(0, at), whole), undefined)
      for (const bit of [0x01, 0x80]) {
        const damaged = Buffer.from(packed)
        damaged[at] = (damaged[at] ?? 0) ^ bit
        const result = decode(open(), damaged, whole)
        // In flags, time and system of the header, or where another distance leads to the same bytes.
        if (result !== undefined) assert.ok(result.equals(plain), `byte ${at}`)
      }
    }
  })
}

test('values of a wrong type are refused', () => {
  const decoder = binding.gzipDecoder(true)
  const none = Buffer.alloc(0)
  const counts = new Float64Array(2)
  assert.throws(() => binding.decode({} as Decoder, none, none, counts), /decoder/)
  assert.throws(
    () => binding.decode(decoder as Decoder, none, none, new Float64Array(1)),
    /Float64Array of two/,
  )
})

test('ahead, one call at a time: what the thread works on is not touched meanwhile', async () => {
  const opened = binding.openAhead('gzip', true, 27, 1 << 20)
  if (!opened) throw new Error('no decoder')
  const { ahead, outputs } = opened
  const input = gzipSync('some text')
  const job = binding.decodeAhead(ahead, input, 1)
  input.fill(0)
  assert.throws(() => binding.decodeAhead(ahead, undefined, 0), /at work/)
  assert.throws(() => binding.endAhead(ahead), /at work/)
  assert.equal(await job, { verdict: VERDICT.good, made: 9, left: 0 })
  assert.is(outputs[1].toString('latin1', 0, 9), 'some text')
  assert.is(binding.endAhead(ahead).isWhole, true)
  assert.throws(() => binding.openAhead('gzip', true, 27, 0), /outputBytes/)
  assert.throws(() => binding.decodeAhead(ahead, undefined, 2 as 1), /which/)
})

test('a thread that ends while its decoder is at work takes nothing with it', async () => {
  const script = `
    const { binding } = await import(process.argv[1])
    const { gzipSync } = await import('node:zlib')
    const { ahead } = binding.openAhead('gzip', true, 27, 64 << 20)
    binding.decodeAhead(ahead, gzipSync(Buffer.alloc(32 << 20), { level: 1 }), 0)
    process.exit()`
  const url = new URL('../../../src/kernel/binding.js', import.meta.url).href
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`), {
      argv: [url],
    })
    const [code] = await once(worker, 'exit')
    assert.is(code, 0)
  }
})

test.run()
