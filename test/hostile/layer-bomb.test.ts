import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { archive, entryBlocks, failure, header, Scratch } from '../lib/archive.ts'

const limits = { expansionFreeBytes: 4 * 1024 * 1024, expansion: 50 }
const zeros = Buffer.alloc(32 * 1024 * 1024)

const attacks: { name: string; bytes: () => Buffer; code: string; text: RegExp }[] = [
  {
    name: 'a gzip bomb inside a file',
    bytes: () => gzipSync(archive({ name: 'f', content: zeros })),
    code: 'RESOURCE_EXHAUSTED',
    text: /ratio/,
  },
  {
    name: 'a gzip bomb behind the end of the archive',
    bytes: () => gzipSync(Buffer.concat([archive({ name: 'f' }), zeros])),
    code: 'RESOURCE_EXHAUSTED',
    text: /ratio/,
  },
  {
    name: 'a file that claims a petabyte',
    bytes: () =>
      header({
        name: 'f',
        patch: (block) => {
          block.fill(0, 124, 136)
          block[124] = 0x80
          block[129] = 4
        },
      }),
    code: 'RESOURCE_EXHAUSTED',
    text: /larger than/,
  },
  {
    name: 'a file shorter than it claims',
    bytes: () => header({ name: 'f', size: 100_000 }),
    code: 'DATA_LOSS',
    text: /ends in the middle/,
  },
  {
    name: 'a file shorter than it claims, before another entry',
    bytes: () =>
      Buffer.concat([
        header({ name: 'f', size: 512 * 3 }),
        archive({ name: 'g', content: 'x' }),
      ]).subarray(0, 1024),
    code: 'DATA_LOSS',
    text: /ends in the middle/,
  },
  {
    name: 'a sparse file that claims a petabyte',
    bytes: () =>
      archive({
        name: 's',
        pax: [
          ['GNU.sparse.size', String(2 ** 50)],
          ['GNU.sparse.map', '0,0'],
        ],
      }),
    code: 'RESOURCE_EXHAUSTED',
    text: /larger than/,
  },
  {
    name: 'a cut layer',
    bytes: () => gzipSync(archive({ name: 'f', content: 'x'.repeat(5000) })).subarray(0, 60),
    code: 'DATA_LOSS',
    text: /gzip stream/,
  },
  {
    name: 'what is no archive',
    bytes: () => Buffer.from('<html>not found</html>'.repeat(100)),
    code: 'DATA_LOSS',
    text: /no tar archive|no number/,
  },
  {
    name: 'a PAX header without end',
    bytes: () => Buffer.concat([header({ name: 'p', type: 'x', size: 2 ** 33 - 1 }), zeros]),
    code: 'RESOURCE_EXHAUSTED',
    text: /extended header/,
  },
  {
    name: 'PAX headers without end',
    bytes: () =>
      Buffer.concat(
        Array.from({ length: 300 }, () =>
          entryBlocks({ name: 'p', type: 'g', content: '9 uid=42\n' }),
        ),
      ),
    code: 'RESOURCE_EXHAUSTED',
    text: /more than 200 entries/,
  },
]
for (const { name, bytes, code, text } of attacks) {
  test(`${name}: refused, and nothing is left`, async () => {
    using scratch = new Scratch()
    const found = await failure(scratch.unpack(bytes(), { limits: { ...limits, entries: 200 } }))
    assert.is(found.code, code, found.message)
    assert.match(found.message, text)
    assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
    assert.equal(scratch.store.list(), [])
  })
}

test.run()
