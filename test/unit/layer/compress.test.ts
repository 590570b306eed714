import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decompress, detectCompression } from '../../../src/layer/compress.ts'
import { LAYER_LIMITS, type LayerLimits } from '../../../src/layer/limits.ts'
import { PlainHash } from '../../../src/layer/plain-hash.ts'
import { chunked, failure } from '../../lib/archive.ts'

/** Whether the machine's fast libraries decode, or what comes with Node and with berth; and both on a thread of its own. */
const MODES = ['yes', 'no', 'yes, ahead', 'no, ahead'] as const
let isAhead = false

function use(mode: (typeof MODES)[number]): void {
  process.env['BERTH_SYSTEM_LIBRARIES'] = mode.startsWith('yes') ? 'yes' : 'no'
  isAhead = mode.endsWith('ahead')
}

async function all(
  bytes: Buffer,
  options: { chunk?: number; limits?: Partial<LayerLimits> } = {},
): Promise<string> {
  const parts: Buffer[] = []
  const source = chunked(bytes, options.chunk ?? Math.max(1, bytes.length))
  const hash = new PlainHash()
  const limits = { ...LAYER_LIMITS, ...options.limits }
  for await (const chunk of decompress(source, limits, isAhead ? hash : undefined)) {
    hash.update(chunk)
    parts.push(Buffer.from(chunk))
  }
  const whole = Buffer.concat(parts)
  assert.is(hash.digest(), `sha256:${createHash('sha256').update(whole).digest('hex')}`)
  return whole.toString('latin1')
}

/** A zstd frame of one stored block, made by hand (RFC 8878). */
function zstdFrame(content: string, window = 0x38): Buffer {
  const block = Buffer.alloc(3)
  block.writeUIntLE((content.length << 3) | 1, 0, 3)
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, window]),
    block,
    Buffer.from(content),
  ])
}

/** Blocks of 128 KiB that are one repeated byte each. */
function zstdBomb(blocks: number): Buffer {
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x38])]
  for (let i = 1; i <= blocks; i++) {
    const block = Buffer.alloc(4)
    block.writeUIntLE(((128 * 1024) << 3) | 2 | (i === blocks ? 1 : 0), 0, 3)
    parts.push(block)
  }
  return Buffer.concat(parts)
}

/** Its header's fields are, behind the magic number, that of a skippable frame; its first block's are that one's size. Gives 6477 bytes. */
function zstdLikeSkippable(): Buffer {
  const rest = Buffer.alloc(3)
  rest.writeUIntLE((6476 << 3) | 1, 0, 3)
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x50, 0x2a, 0x4d, 0x18, 1 << 3, 0, 0, 0]),
    rest,
    Buffer.alloc(6476, 'x'),
  ])
}

const SKIPPABLE = Buffer.from([0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])
const text = 'some text, '.repeat(500)

const good: { name: string; given: Buffer; expect: string }[] = [
  { name: 'no compression', given: Buffer.from(text), expect: text },
  { name: 'nothing at all', given: Buffer.alloc(0), expect: '' },
  { name: 'fewer bytes than a magic number', given: Buffer.from('abc'), expect: 'abc' },
  { name: 'gzip', given: gzipSync(text), expect: text },
  {
    name: 'gzip of two members',
    given: Buffer.concat([gzipSync(text), gzipSync('more')]),
    expect: `${text}more`,
  },
  {
    name: 'gzip with zeros after it',
    given: Buffer.concat([gzipSync(text), Buffer.alloc(70_000)]),
    expect: text,
  },
  { name: 'zstd', given: zstdFrame(text), expect: text },
  {
    name: 'zstd of two frames and skippable ones',
    given: Buffer.concat([SKIPPABLE, zstdFrame(text), SKIPPABLE, zstdFrame('more'), SKIPPABLE]),
    expect: `${text}more`,
  },
  {
    name: 'zstd with a header that looks like a skippable frame',
    given: zstdLikeSkippable(),
    expect: `\0${'x'.repeat(6476)}`,
  },
  {
    name: 'zstd of very many tiny frames',
    given: Buffer.concat(Array.from({ length: 20_000 }, () => zstdFrame('x'))),
    expect: 'x'.repeat(20_000),
  },
]
for (const mode of MODES) {
  for (const c of good) {
    test(`${c.name} comes out whole (libraries: ${mode})`, async () => {
      use(mode)
      assert.is(await all(c.given), c.expect)
      assert.is(await all(c.given, { chunk: 1000 }), c.expect)
    })
  }

  test(`a few bytes at a time (libraries: ${mode})`, async () => {
    use(mode)
    assert.is(await all(gzipSync(text), { chunk: 1 }), text)
    assert.is(await all(zstdFrame(text), { chunk: 1 }), text)
  })
}

test('bzip2 and xz are refused by name', () => {
  assert.throws(() => detectCompression(Buffer.from('BZh91AY')), /bzip2/)
  assert.throws(() => detectCompression(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0])), /xz/)
})

const small = { expansionFreeBytes: 1024 * 1024, expansion: 100 }
const bad: {
  name: string
  given: Buffer
  code: string
  text: RegExp
  limits?: Partial<LayerLimits>
}[] = [
  {
    name: 'cut gzip',
    given: gzipSync(text).subarray(0, 40),
    code: 'DATA_LOSS',
    text: /gzip stream/,
  },
  {
    name: 'damaged gzip',
    given: Buffer.concat([gzipSync(text).subarray(0, 30), Buffer.alloc(100, 0xff)]),
    code: 'DATA_LOSS',
    text: /gzip stream/,
  },
  {
    name: 'garbage after gzip',
    given: Buffer.concat([gzipSync(text), Buffer.from('garbage, garbage')]),
    code: 'DATA_LOSS',
    text: /gzip stream: incorrect header check/,
  },
  {
    name: 'gzip with a wrong checksum',
    given: Buffer.concat([gzipSync(text).subarray(0, -5), Buffer.alloc(5)]),
    code: 'DATA_LOSS',
    text: /gzip stream: incorrect/,
  },
  {
    name: 'gzip cut in its second member',
    given: Buffer.concat([gzipSync(text), gzipSync(text).subarray(0, -1)]),
    code: 'DATA_LOSS',
    text: /unexpected end of file/,
  },
  {
    name: 'zstd of a version before 1.0 behind a good frame',
    given: Buffer.concat([zstdFrame(text), Buffer.from([0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0])]),
    code: 'DATA_LOSS',
    text: /no other frame/,
  },
  {
    name: 'cut zstd',
    given: zstdFrame(text).subarray(0, 100),
    code: 'DATA_LOSS',
    text: /middle of a frame/,
  },
  {
    name: 'garbage after zstd',
    given: Buffer.concat([zstdFrame(text), Buffer.from('garbage')]),
    code: 'DATA_LOSS',
    text: /no other frame/,
  },
  {
    name: 'a zstd window of gigabytes',
    given: zstdFrame(text, 0xa0),
    code: 'RESOURCE_EXHAUSTED',
    text: /window/,
  },
  {
    name: 'a zstd single segment of gigabytes',
    given: Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe0]),
      Buffer.from([0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]),
    ]),
    code: 'RESOURCE_EXHAUSTED',
    text: /window/,
  },
  {
    name: 'a zstd dictionary',
    given: Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 1, 0, 7, 1, 0, 0]),
    code: 'UNIMPLEMENTED',
    text: /dictionary/,
  },
  {
    name: 'a gzip bomb',
    given: gzipSync(Buffer.alloc(20 * 1024 * 1024)),
    limits: small,
    code: 'RESOURCE_EXHAUSTED',
    text: /ratio/,
  },
  {
    name: 'a zstd bomb',
    given: zstdBomb(1000),
    limits: small,
    code: 'RESOURCE_EXHAUSTED',
    text: /ratio/,
  },
  {
    name: 'more than the total limit',
    given: Buffer.from(text),
    limits: { totalBytes: 1000 },
    code: 'RESOURCE_EXHAUSTED',
    text: /larger than 1000/,
  },
]
for (const c of bad.flatMap((c) => MODES.map((mode) => ({ ...c, mode })))) {
  test(`refused: ${c.name} (libraries: ${c.mode})`, async () => {
    use(c.mode)
    const { code, message } = await failure(all(c.given, c.limits ? { limits: c.limits } : {}))
    assert.is(code, c.code, message)
    assert.match(message, c.text)
  })
}

test('an error of the source is the error of the stream', async () => {
  const source = async function* (): AsyncGenerator<Buffer> {
    yield gzipSync(text).subarray(0, 50)
    throw Object.assign(new Error('connection reset'), { code: 'ECONNRESET' })
  }
  const read = async (): Promise<void> => {
    for await (const _chunk of decompress(source(), LAYER_LIMITS));
  }
  assert.is((await failure(read())).code, 'ECONNRESET')
})

test('the source is read to its end, also behind the last gzip member', async () => {
  let isEnd = false
  const source = async function* (): AsyncGenerator<Buffer> {
    yield gzipSync(text)
    for (let i = 0; i < 5; i++) yield Buffer.alloc(1000)
    isEnd = true
  }
  for await (const _chunk of decompress(source(), LAYER_LIMITS));
  assert.ok(isEnd)
})

test.run()
