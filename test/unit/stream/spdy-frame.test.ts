import { createHash } from 'node:crypto'
import { createDeflate, createInflate, deflateSync, constants as zlib } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CONTROL_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX } from '../../../src/stream/limits.ts'
import { SPDY_DICTIONARY } from '../../../src/stream/spdy-dictionary.ts'
import {
  dataFrame,
  goAwayFrame,
  pingFrame,
  replyFrame,
  resetFrame,
  type SpdyFrame,
  SpdyReader,
} from '../../../src/stream/spdy-frame.ts'
import { EmptyHeaderWriter, HeaderReader } from '../../../src/stream/spdy-headers.ts'
import { clientDataFrame, controlFrame, headerBlock } from '../../lib/spdy-client.ts'

/** The blocks as one zlib stream, flushed after each: what a client's deflater writes. */
async function deflated(blocks: readonly Buffer[], dictionary?: Buffer): Promise<Buffer[]> {
  const deflater = createDeflate({ ...(dictionary ? { dictionary } : {}), level: 9 })
  const out: Buffer[] = []
  for (const block of blocks) {
    const parts: Buffer[] = []
    const keep = (part: Buffer): void => {
      parts.push(part)
    }
    deflater.on('data', keep)
    await new Promise<void>((resolve) => {
      deflater.write(block)
      deflater.flush(zlib.Z_SYNC_FLUSH, () => resolve())
    })
    deflater.off('data', keep)
    out.push(Buffer.concat(parts))
  }
  return out
}

function openFrame(id: number, block: Buffer, flags = 0): Buffer {
  const head = Buffer.alloc(10)
  head.writeUInt32BE(id)
  return controlFrame(1, flags, Buffer.concat([head, block]))
}

function frames(bytes: Buffer, size = bytes.length): SpdyFrame[] {
  const reader = new SpdyReader()
  const out: SpdyFrame[] = []
  for (let at = 0; at < bytes.length; at += size) {
    for (const frame of reader.push(bytes.subarray(at, at + size))) out.push(frame)
  }
  return out
}

test('the dictionary is that of the draft', () => {
  assert.is(SPDY_DICTIONARY.length, 1423)
  assert.is(
    createHash('sha256').update(SPDY_DICTIONARY).digest('hex'),
    '51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02',
  )
})

test('headers of a client come out as they went in, over thousands of streams of one connection', async () => {
  for (const dictionary of [SPDY_DICTIONARY, undefined]) {
    const sent = Array.from({ length: 3000 }, (_, i) => ({
      streamtype: i % 2 === 0 ? 'data' : 'error',
      port: String(1 + (i % 65535)),
      requestid: `${i >> 1}`,
      // Something to refer back to, further than the window is long.
      filler: createHash('sha256').update(String(i)).digest('hex'),
    }))
    const blocks = await deflated(sent.map(headerBlock), dictionary)
    const reader = new HeaderReader()
    for (const [i, block] of blocks.entries()) {
      assert.equal(Object.fromEntries(reader.read(block)), sent[i])
    }
  }
})

test('of several values the first is taken', async () => {
  const [block] = await deflated([headerBlock({ streamtype: 'stdin\0stdout' })], SPDY_DICTIONARY)
  assert.is(new HeaderReader().read(block ?? Buffer.alloc(0)).get('streamtype'), 'stdin')
})

test('our own header blocks are one zlib stream of empty blocks', async () => {
  const writer = new EmptyHeaderWriter()
  const inflater = createInflate({ dictionary: SPDY_DICTIONARY, flush: zlib.Z_SYNC_FLUSH })
  const plain: Buffer[] = []
  inflater.on('data', (part) => plain.push(part))
  for (let i = 0; i < 100; i++) {
    await new Promise((resolve) => inflater.write(writer.write(), resolve))
    await new Promise(setImmediate)
    assert.is(Buffer.concat(plain).length, 4 * (i + 1))
  }
  // Go's inflater gives out nothing before an empty stored block, which is what a flush leaves.
  for (const block of [writer.write(), new EmptyHeaderWriter().write()]) {
    assert.is(block.subarray(-5).toString('hex'), '000000ffff')
  }
  assert.ok(Buffer.concat(plain).every((byte) => byte === 0))
})

test('frames come out as they went in, wherever the stream is cut', async () => {
  const [first, second] = await deflated(
    [headerBlock({ streamtype: 'stdin' }), headerBlock({ streamtype: 'stdout' })],
    SPDY_DICTIONARY,
  )
  const stream = Buffer.concat([
    openFrame(1, first ?? Buffer.alloc(0)),
    openFrame(3, second ?? Buffer.alloc(0), 1),
    clientDataFrame(1, Buffer.alloc(3000, 7)),
    clientDataFrame(1, Buffer.alloc(0), true),
    controlFrame(6, 0, Buffer.from([0, 0, 0, 9])),
    controlFrame(4, 0, Buffer.from([0, 0, 0, 0])),
    controlFrame(9, 0, Buffer.alloc(8, 1)),
    controlFrame(99, 0, Buffer.alloc(12)),
    controlFrame(3, 0, Buffer.from([0, 0, 0, 3, 0, 0, 0, 5])),
    controlFrame(7, 0, Buffer.alloc(8)),
  ])
  for (const size of [1, 2, 7, 8, 9, 1000, stream.length]) {
    const got = frames(stream, size)
    const data = got.filter((frame) => frame.type === 'data')
    assert.is(Buffer.concat(data.map((frame) => frame.data)).length, 3000)
    assert.equal(
      data.map((frame) => frame.fin).filter((fin) => fin),
      [true],
    )
    assert.equal(
      got
        .filter((frame) => frame.type !== 'data')
        .map(({ type, ...rest }) => [type, 'id' in rest ? rest.id : 0]),
      [
        ['open', 1],
        ['open', 3],
        ['ping', 9],
        ['reset', 3],
        ['goAway', 0],
      ],
    )
    const opened = got.filter((frame) => frame.type === 'open')
    assert.equal(
      opened.map(({ fin, headers }) => [fin, headers.get('streamtype')]),
      [
        [false, 'stdin'],
        [true, 'stdout'],
      ],
    )
  }
})

test('the end in a data frame belongs to its last piece', () => {
  const got = frames(clientDataFrame(5, Buffer.alloc(20, 1), true), 9)
  assert.equal(
    got.map((frame) => (frame.type === 'data' ? [frame.data.length, frame.fin] : [])),
    [
      [1, false],
      [9, false],
      [9, false],
      [1, true],
    ],
  )
})

test('a data frame of the greatest length is not kept: its pieces go on as they come', () => {
  const head = Buffer.from([0, 0, 0, 1, 0, 0xff, 0xff, 0xff])
  const reader = new SpdyReader()
  assert.equal([...reader.push(head)], [])
  const [piece] = reader.push(Buffer.alloc(1000))
  assert.is(piece?.type === 'data' && piece.data.length, 1000)
})

test('our frames have the form of the draft', () => {
  assert.equal(
    [
      dataFrame(5, Buffer.from('ab'), true),
      replyFrame(3, Buffer.from([9])),
      resetFrame(7, 5),
      pingFrame(2),
      goAwayFrame(9, 1),
    ].map((frame) => frame.toString('hex')),
    [
      '00000005010000026162',
      '80030002000000050000000309',
      '80030003000000080000000700000005',
      '800300060000000400000002',
      '80030007000000080000000900000001',
    ],
  )
})

const unfinished = (payload: Buffer): Buffer =>
  deflateSync(payload, { finishFlush: zlib.Z_SYNC_FLUSH, dictionary: SPDY_DICTIONARY })
const counted = (count: number, rest: Buffer = Buffer.alloc(0)): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(count)
  return Buffer.concat([bytes, rest])
}

const hostile: { readonly name: string; readonly bytes: Buffer; readonly says: RegExp }[] = [
  { name: 'another version', bytes: Buffer.from('8002000600000004', 'hex'), says: /version/ },
  {
    name: 'a control frame that is too long',
    bytes: Buffer.from('8003000100ffffff', 'hex'),
    says: /more than/,
  },
  {
    name: 'a control frame one byte over the limit',
    bytes: controlFrame(1, 0, Buffer.alloc(CONTROL_BYTES_MAX + 1)),
    says: /more than/,
  },
  { name: 'data for stream 0', bytes: clientDataFrame(0, Buffer.from('x')), says: /stream 0/ },
  { name: 'a stream 0', bytes: openFrame(0, unfinished(counted(0))), says: /stream 0/ },
  { name: 'a reset of stream 0', bytes: controlFrame(3, 0, Buffer.alloc(8)), says: /stream 0/ },
  { name: 'a short SYN_STREAM', bytes: controlFrame(1, 0, Buffer.alloc(9)), says: /too short/ },
  { name: 'a short HEADERS', bytes: controlFrame(8, 0, Buffer.alloc(3)), says: /too short/ },
  { name: 'a long PING', bytes: controlFrame(6, 0, Buffer.alloc(5)), says: /PING/ },
  { name: 'a short RST_STREAM', bytes: controlFrame(3, 0, Buffer.alloc(4)), says: /RST_STREAM/ },
  { name: 'a short GOAWAY', bytes: controlFrame(7, 0, Buffer.alloc(4)), says: /GOAWAY/ },
  {
    name: 'a short WINDOW_UPDATE',
    bytes: controlFrame(9, 0, Buffer.alloc(4)),
    says: /WINDOW_UPDATE/,
  },
  {
    name: 'SETTINGS that count wrongly',
    bytes: controlFrame(4, 0, Buffer.from('ffffffff', 'hex')),
    says: /SETTINGS/,
  },
  { name: 'no headers at all', bytes: openFrame(1, Buffer.alloc(0)), says: /zlib/ },
  {
    name: 'headers that are no zlib',
    bytes: openFrame(1, Buffer.from('hello, server')),
    says: /zlib/,
  },
  {
    name: 'another dictionary',
    bytes: openFrame(1, deflateSync(counted(0), { dictionary: Buffer.from('other') })),
    says: /dictionary/,
  },
  {
    name: 'a dictionary that is cut off',
    bytes: openFrame(1, unfinished(counted(0)).subarray(0, 4)),
    says: /cut off/,
  },
  {
    name: 'a count that is cut off',
    bytes: openFrame(1, unfinished(Buffer.alloc(3))),
    says: /cut off/,
  },
  {
    name: 'a name that is cut off',
    bytes: openFrame(1, unfinished(counted(1, counted(10)))),
    says: /cut off/,
  },
  {
    name: 'a length that is too great',
    bytes: openFrame(1, unfinished(counted(1, counted(0xffffffff)))),
    says: /cut off/,
  },
  {
    name: 'too many headers',
    bytes: openFrame(1, unfinished(counted(HEADERS_MAX + 1))),
    says: /more than/,
  },
  {
    name: 'an inflating block',
    bytes: openFrame(1, unfinished(Buffer.alloc(5_000_000))),
    says: /inflated/,
  },
  {
    name: 'a block one byte over the limit',
    bytes: openFrame(1, unfinished(Buffer.alloc(HEADER_BYTES_MAX + 1))),
    says: /inflated/,
  },
  {
    name: 'headers with something behind them',
    bytes: openFrame(1, unfinished(counted(0, Buffer.from('x')))),
    says: /other bytes/,
  },
  {
    name: 'a name in upper case',
    bytes: openFrame(1, unfinished(headerBlock({ StreamType: 'x' }))),
    says: /invalid name/,
  },
  {
    name: 'a name of no length',
    bytes: openFrame(1, unfinished(headerBlock({ '': 'x' }))),
    says: /invalid name/,
  },
  {
    name: 'a name twice',
    bytes: openFrame(
      1,
      unfinished(
        counted(
          2,
          Buffer.concat([headerBlock({ a: '1' }).subarray(4), headerBlock({ a: '2' }).subarray(4)]),
        ),
      ),
    ),
    says: /twice/,
  },
  {
    name: 'a damaged block',
    bytes: openFrame(
      1,
      Buffer.concat([unfinished(counted(0)).subarray(0, 6), Buffer.alloc(8, 0xff)]),
    ),
    says: /inflated/,
  },
]
for (const { name, bytes, says } of hostile) {
  test(`refused: ${name}`, () => {
    assert.throws(() => frames(bytes), says)
  })
}

test('whatever a client sends, the reader answers with frames or a refusal', () => {
  let seed = 12345
  const random = (): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    return seed >>> 8
  }
  let refused = 0
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(Array.from({ length: random() % 200 }, () => random() & 0xff))
    // Half of them at least begin like a frame.
    if (round % 2 === 0 && bytes.length >= 8) {
      bytes.writeUInt32BE(0x80030000 + (random() % 11), 0)
      bytes.writeUInt32BE(random() % 64, 4)
    }
    try {
      frames(bytes, 1 + (random() % 50))
    } catch (error) {
      refused++
      assert.is((error as Error).name, 'Fault')
    }
  }
  assert.ok(refused > 100)
})

test.run()
