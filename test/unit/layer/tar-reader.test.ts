import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { LAYER_LIMITS, type LayerLimits } from '../../../src/layer/limits.ts'
import { type TarEntry, TarReader } from '../../../src/layer/tar-reader.ts'
import { END_OF_ARCHIVE, encodeEntry, padding } from '../../../src/layer/tar-writer.ts'
import { archive, entryBlocks, header, padded, type RawEntry } from '../../lib/archive.ts'

interface Read extends TarEntry {
  content: string
}

function read(
  bytes: Buffer,
  options: { chunk?: number; limits?: Partial<LayerLimits> } = {},
): Read[] {
  const found: Read[] = []
  const reader = new TarReader(
    {
      entry: (entry) => found.push({ ...entry, content: '' }),
      data: (chunk) => {
        const last = found.at(-1)
        if (last) last.content += chunk.toString('latin1')
      },
      end: () => undefined,
    },
    { ...LAYER_LIMITS, ...options.limits },
  )
  const size = options.chunk ?? bytes.length
  for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size))
  reader.finish()
  return found
}

function fails(run: () => unknown, code: string, text: RegExp): void {
  try {
    run()
  } catch (error) {
    assert.instance(error, Fault)
    if (error instanceof Fault) {
      assert.is(error.code, code)
      assert.match(error.message, text)
    }
    return
  }
  assert.unreachable('nothing was refused')
}

test('a file, a directory and a link come out as they went in, however the bytes are cut', () => {
  const bytes = archive(
    { name: 'd/', type: '5', mode: 0o2755 },
    { name: 'd/f', content: 'hello', uid: 7, gid: 8, mode: 0o4755, mtime: 5 },
    { name: 'd/l', type: '2', link: '../x' },
  )
  for (const chunk of [1, 7, 511, 512, 513, bytes.length]) {
    const [d, f, l] = read(bytes, { chunk })
    assert.is(d?.kind, 'directory')
    assert.is(d?.mode, 0o2755)
    assert.is(f?.content, 'hello')
    assert.equal([f?.uid, f?.gid, f?.mode, f?.mtimeNs], [7, 8, 0o4755, 5_000_000_000n])
    assert.equal([l?.kind, l?.link], ['symlink', '../x'])
  }
})

test('a name that is not UTF-8 keeps its bytes', () => {
  const [entry] = read(archive({ name: Buffer.from([0x66, 0xff, 0xfe, 0x0a]) }))
  assert.equal(Buffer.from(entry?.path ?? '', 'latin1'), Buffer.from([0x66, 0xff, 0xfe, 0x0a]))
})

test('PAX records override the header, an empty value takes nothing over', () => {
  const [entry] = read(
    archive({
      name: 'short',
      content: 'abc',
      pax: [
        ['path', `${'a/'.repeat(100)}long`],
        ['uid', '4000000000'],
        ['mtime', '1234567890.123456789'],
        ['linkpath', ''],
      ],
    }),
  )
  assert.is(entry?.path.length, 204)
  assert.is(entry?.uid, 4_000_000_000)
  assert.is(entry?.mtimeNs, 1_234_567_890_123_456_789n)
  assert.is(entry?.content, 'abc')
})

test('a time before 1970 and a time beyond 64 bits', () => {
  const times = ['-1.5', '99999999999999'].map(
    (mtime) => read(archive({ name: 'f', pax: [['mtime', mtime]] }))[0]?.mtimeNs,
  )
  assert.equal(times, [-1_500_000_000n, 0n])
})

test('PAX holds for one entry only', () => {
  const entries = read(archive({ name: 'a', pax: [['path', 'b']] }, { name: 'c' }))
  assert.equal(
    entries.map((entry) => entry.path),
    ['b', 'c'],
  )
})

test('a global header gives owner and time to what follows, and may rename nothing', () => {
  const global = (records: Buffer): Buffer =>
    Buffer.concat([header({ name: 'g', type: 'g', content: records }), padded(records)])
  const bytes = Buffer.concat([
    global(Buffer.from('9 uid=42\n')),
    archive({ name: 'a' }, { name: 'b' }),
  ])
  assert.equal(
    read(bytes).map((entry) => entry.uid),
    [42, 42],
  )
  const evil = Buffer.concat([global(Buffer.from('10 path=x\n')), archive({ name: 'a' })])
  fails(() => read(evil), 'UNIMPLEMENTED', /global PAX header sets path/)
})

test('extended attributes are bytes, in both spellings', () => {
  const capability = Buffer.from([1, 0, 0, 2, 0xff, 0x0a, 0x3d, 0])
  const [entry] = read(
    archive({
      name: 'f',
      pax: [
        ['SCHILY.xattr.security.capability', capability],
        ['LIBARCHIVE.xattr.user.a%3Db', Buffer.from(capability.toString('base64'))],
      ],
    }),
  )
  assert.equal(entry?.xattrs.get('security.capability'), capability)
  assert.equal(entry?.xattrs.get('user.a=b'), capability)
})

test('GNU long names and links, GNU device numbers and base-256 numbers', () => {
  const long = `${'x'.repeat(150)}/y`
  const entries = read(
    Buffer.concat([
      entryBlocks({ name: '././@LongLink', type: 'L', content: `${long}\0`, magic: 'gnu' }),
      entryBlocks({ name: '././@LongLink', type: 'K', content: `${long}z\0`, magic: 'gnu' }),
      entryBlocks({ name: 'cut', type: '2', link: 'cut', magic: 'gnu' }),
      archive(
        { name: 'null', type: '3', major: 1, minor: 3, magic: 'gnu' },
        {
          name: 'big',
          magic: 'gnu',
          patch: (block) => {
            block.fill(0, 108, 116)
            block[108] = 0x80
            block.writeUInt32BE(4_000_000_000, 112)
          },
        },
      ),
    ]),
  )
  assert.equal([entries[0]?.path, entries[0]?.link], [long, `${long}z`])
  assert.equal([entries[1]?.major, entries[1]?.minor], [1, 3])
  assert.is(entries[2]?.uid, 4_000_000_000)
})

const pieces = [
  { offset: 512, length: 512 },
  { offset: 4096, length: 100 },
]
const data = 'a'.repeat(512) + 'b'.repeat(100)
const sparseCases: { name: string; bytes: () => Buffer }[] = [
  {
    name: 'old GNU sparse header',
    bytes: () =>
      archive({
        name: 's',
        type: 'S',
        magic: 'gnu',
        content: data,
        patch: (block) => {
          block.write('00000001000\x0000000001000\x0000000010000\x0000000000144\0', 386, 'latin1')
          block.write('00000020000\0', 483, 'latin1')
        },
      }),
  },
  {
    name: 'PAX sparse 0.0',
    bytes: () =>
      archive({
        name: 's',
        content: data,
        pax: [
          ['GNU.sparse.size', '8192'],
          ['GNU.sparse.numblocks', '2'],
          ['GNU.sparse.offset', '512'],
          ['GNU.sparse.numbytes', '512'],
          ['GNU.sparse.offset', '4096'],
          ['GNU.sparse.numbytes', '100'],
        ],
      }),
  },
  {
    name: 'PAX sparse 0.1',
    bytes: () =>
      archive({
        name: 'GNUSparseFile.1/s',
        content: data,
        pax: [
          ['GNU.sparse.size', '8192'],
          ['GNU.sparse.name', 's'],
          ['GNU.sparse.map', '512,512,4096,100'],
        ],
      }),
  },
  {
    name: 'PAX sparse 1.0',
    bytes: () =>
      archive({
        name: 'GNUSparseFile.1/s',
        content: padded(Buffer.from('2\n512\n512\n4096\n100\n')).toString('latin1') + data,
        pax: [
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.name', 's'],
          ['GNU.sparse.realsize', '8192'],
        ],
      }),
  },
]
for (const c of sparseCases) {
  test(`${c.name}: the map, the real size and the name`, () => {
    for (const chunk of [100, 512, 100_000]) {
      const [entry] = read(c.bytes(), { chunk })
      assert.is(entry?.path, 's')
      assert.is(entry?.size, 8192)
      assert.equal(entry?.sparse, pieces)
      assert.is(entry?.content, data)
    }
  })
}

test('the archive ends at two blocks of zeros; garbage after them is not looked at', () => {
  const bytes = Buffer.concat([archive({ name: 'a' }), Buffer.from('garbage'.repeat(500))])
  assert.is(read(bytes).length, 1)
})

test('an archive without an end, and one of no bytes, are whole', () => {
  assert.is(read(entryBlocks({ name: 'a', content: 'x' })).length, 1)
  assert.is(read(Buffer.alloc(0)).length, 0)
})

const refused: {
  name: string
  given: () => Buffer
  code: string
  text: RegExp
  limits?: Partial<LayerLimits>
}[] = [
  {
    name: 'a wrong checksum',
    given: () => archive({ name: 'a', badSum: true }),
    code: 'DATA_LOSS',
    text: /checksum/,
  },
  {
    name: 'a cut header',
    given: () => archive({ name: 'a' }).subarray(0, 300),
    code: 'DATA_LOSS',
    text: /ends in the middle/,
  },
  {
    name: 'a cut content',
    given: () => entryBlocks({ name: 'a', content: 'x'.repeat(2000) }).subarray(0, 1500),
    code: 'DATA_LOSS',
    text: /ends in the middle/,
  },
  {
    name: 'a PAX header with nothing after it',
    given: () => entryBlocks({ name: 'a', type: 'x', content: '9 uid=42\n' }),
    code: 'DATA_LOSS',
    text: /ends in the middle/,
  },
  {
    name: 'data after one block of zeros',
    given: () => Buffer.concat([Buffer.alloc(512), archive({ name: 'a' })]),
    code: 'DATA_LOSS',
    text: /lone block/,
  },
  {
    name: 'an unknown type',
    given: () => archive({ name: 'a', type: 'V' }),
    code: 'UNIMPLEMENTED',
    text: /type "V"/,
  },
  {
    name: 'a PAX record with a wrong length',
    given: () => archive({ name: 'a', type: 'x', content: '99 uid=42\n' }),
    code: 'DATA_LOSS',
    text: /wrong length/,
  },
  {
    name: 'a PAX record without a key',
    given: () => archive({ name: 'a', type: 'x', content: '6 =ab\n' }),
    code: 'DATA_LOSS',
    text: /without a key/,
  },
  {
    name: 'a PAX size that is no number',
    given: () => archive({ name: 'a', pax: [['size', '-1']] }),
    code: 'DATA_LOSS',
    text: /size is no number/,
  },
  {
    name: 'a NUL in a PAX path',
    given: () => archive({ name: 'a', pax: [['path', 'a\0b']] }),
    code: 'DATA_LOSS',
    text: /NUL/,
  },
  {
    name: 'an entry without a name',
    given: () => archive({ name: '' }),
    code: 'DATA_LOSS',
    text: /no name/,
  },
  {
    name: 'too many entries',
    given: () => archive({ name: 'a' }, { name: 'b' }, { name: 'c' }),
    limits: { entries: 2 },
    code: 'RESOURCE_EXHAUSTED',
    text: /more than 2 entries/,
  },
  {
    name: 'an endless row of PAX headers',
    given: () =>
      Buffer.concat(
        Array.from({ length: 50 }, () =>
          entryBlocks({ name: 'p', type: 'x', content: '9 uid=42\n' }),
        ),
      ),
    limits: { entries: 20 },
    code: 'RESOURCE_EXHAUSTED',
    text: /more than 20 entries/,
  },
  {
    name: 'a PAX header that claims gigabytes',
    given: () => header({ name: 'p', type: 'x', size: 2 ** 32 }),
    code: 'RESOURCE_EXHAUSTED',
    text: /extended header is longer/,
  },
  {
    name: 'a GNU long name that claims gigabytes',
    given: () => header({ name: 'p', type: 'L', size: 2 ** 32 }),
    code: 'RESOURCE_EXHAUSTED',
    text: /extended header is longer/,
  },
  {
    name: 'a path too long',
    given: () => archive({ name: 'a', pax: [['path', 'a/'.repeat(3000)]] }),
    code: 'RESOURCE_EXHAUSTED',
    text: /path is longer/,
  },
  {
    name: 'a link too long',
    given: () => archive({ name: 'a', type: '2', pax: [['linkpath', 'a/'.repeat(3000)]] }),
    code: 'RESOURCE_EXHAUSTED',
    text: /target is longer/,
  },
  {
    name: 'an attribute too long',
    given: () => archive({ name: 'a', pax: [['SCHILY.xattr.user.a', Buffer.alloc(70_000)]] }),
    code: 'RESOURCE_EXHAUSTED',
    text: /user.a is longer/,
  },
  {
    name: 'too many attributes',
    given: () =>
      archive({
        name: 'a',
        pax: Array.from(
          { length: 300 },
          (_, i) => [`SCHILY.xattr.user.${i}`, 'x'] as [string, string],
        ),
      }),
    code: 'RESOURCE_EXHAUSTED',
    text: /more than 256/,
  },
  {
    name: 'a file larger than any',
    given: () =>
      header({
        name: 'a',
        patch: (b) => {
          b.fill(0, 124, 136)
          b[124] = 0x80
          b[130] = 0x7f
        },
      }),
    code: 'RESOURCE_EXHAUSTED',
    text: /larger than/,
  },
  {
    name: 'a size below zero',
    given: () => header({ name: 'a', patch: (b) => b.fill(0xff, 124, 136) }),
    code: 'DATA_LOSS',
    text: /below zero/,
  },
  {
    name: 'a sparse map that overlaps',
    given: () =>
      archive({
        name: 'a',
        content: 'x'.repeat(20),
        pax: [
          ['GNU.sparse.size', '100'],
          ['GNU.sparse.map', '0,10,5,10'],
        ],
      }),
    code: 'DATA_LOSS',
    text: /overlap/,
  },
  {
    name: 'a sparse map beyond its file',
    given: () =>
      archive({
        name: 'a',
        content: 'x'.repeat(20),
        pax: [
          ['GNU.sparse.size', '15'],
          ['GNU.sparse.map', '0,20'],
        ],
      }),
    code: 'DATA_LOSS',
    text: /beyond the end/,
  },
  {
    name: 'a sparse map that does not fit its content',
    given: () =>
      archive({
        name: 'a',
        content: 'x',
        pax: [
          ['GNU.sparse.size', '15'],
          ['GNU.sparse.map', '0,10'],
        ],
      }),
    code: 'DATA_LOSS',
    text: /does not fit/,
  },
  {
    name: 'a sparse map with too many pieces',
    given: () =>
      archive({
        name: 'a',
        pax: [
          ['GNU.sparse.size', '15'],
          ['GNU.sparse.map', `${'0,0,'.repeat(20)}0,0`],
        ],
      }),
    limits: { sparsePieces: 10 },
    code: 'RESOURCE_EXHAUSTED',
    text: /more than 10 pieces/,
  },
  {
    name: 'a sparse 1.0 map that claims millions of pieces',
    given: () =>
      archive({
        name: 'a',
        content: padded(Buffer.from('99999999\n')),
        pax: [
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.realsize', '15'],
        ],
      }),
    code: 'RESOURCE_EXHAUSTED',
    text: /pieces/,
  },
]
for (const c of refused) {
  test(`refused: ${c.name}`, () => {
    fails(() => read(c.given(), c.limits ? { limits: c.limits } : {}), c.code, c.text)
  })
}

test('what the writer writes the reader reads', () => {
  const entry = {
    kind: 'file' as const,
    path: `${'d\xff/'.repeat(60)}f`,
    link: '',
    mode: 0o4755,
    uid: 3_000_000,
    gid: 1,
    mtimeNs: -123n,
    size: 3,
    major: 0,
    minor: 0,
    xattrs: new Map([['user.x', Buffer.from([0, 255, 10])]]),
  }
  const bytes = Buffer.concat([encodeEntry(entry), Buffer.from('abc'), padding(3), END_OF_ARCHIVE])
  const [back] = read(bytes)
  assert.equal(
    { ...back, dataSize: undefined, sparse: undefined, content: undefined },
    { ...entry, dataSize: undefined, sparse: undefined, content: undefined },
  )
})

const huge: RawEntry = { name: 'a', type: '5', size: 10 ** 9 }
test('a directory has no content whatever its size field says, as in Go', () => {
  assert.equal(
    read(archive(huge, { name: 'b' })).map((entry) => entry.path),
    ['a', 'b'],
  )
})

test.run()
