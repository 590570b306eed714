import { LAYER_LIMITS } from '../../../src/layer/limits.ts'
import { BLOCK } from '../../../src/layer/tar-header.ts'
import { type TarEntry, TarReader } from '../../../src/layer/tar-reader.ts'
import { archive, padded, paxRecords, type RawEntry } from '../../lib/archive.ts'
import { claim, orFault, same, type Target } from '../target.ts'

const LIMITS = {
  ...LAYER_LIMITS,
  entries: 200,
  sparsePieces: 200,
  xattrs: 16,
  headerBytes: 8192,
  fileBytes: 2 ** 40,
}

type Event = { readonly entry: TarEntry } | { readonly bytes: number } | 'end'

/** Every header's checksum set right: a wrong one hides all that stands behind it. */
export function repaired(input: Buffer): Buffer {
  for (let at = 0; at + BLOCK <= input.length; ) {
    const block = input.subarray(at, at + BLOCK)
    if (block.every((byte) => byte === 0)) {
      at += BLOCK
      continue
    }
    block.fill(' ', 148, 156)
    const sum = block.reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    const size = Number.parseInt(block.toString('latin1', 124, 136), 8)
    const isContent = !'123456'.includes(String.fromCharCode(block[156] ?? 0))
    at += BLOCK
    if (isContent && size > 0) at += Math.ceil(size / BLOCK) * BLOCK
  }
  return input
}

function read(input: Buffer, pieceBytes: number): { value: Event[] } | { code: string } {
  return orFault(() => {
    const events: Event[] = []
    const reader = new TarReader(
      {
        entry: (entry) => events.push({ entry }),
        data: (chunk) => {
          const last = events.at(-1)
          // In which pieces the content comes is the reader's own affair.
          if (typeof last === 'object' && 'bytes' in last) events.pop()
          const before = typeof last === 'object' && 'bytes' in last ? last.bytes : 0
          events.push({ bytes: before + chunk.length })
        },
        end: () => events.push('end'),
      },
      LIMITS,
    )
    for (let at = 0; at < input.length; at += pieceBytes) {
      reader.push(Buffer.from(input.subarray(at, at + pieceBytes)))
    }
    reader.finish()
    return events
  })
}

/** What the rest of berth takes for granted of an entry. */
function check(events: readonly Event[], inputBytes: number): void {
  let total = 0
  let open: TarEntry | undefined
  for (const event of events) {
    if (event === 'end') {
      claim(open !== undefined, 'an end without an entry')
      open = undefined
    } else if ('bytes' in event) {
      claim(event.bytes === open?.dataSize, 'content of another size than the entry names')
      total += event.bytes
    } else {
      open = event.entry
      const { size, dataSize, sparse, path, link, mode, uid, gid, major, minor } = event.entry
      const numbers = [size, dataSize, mode, uid, gid, major, minor]
      claim(
        numbers.every((n) => Number.isSafeInteger(n) && n >= 0),
        `a number is none: ${numbers}`,
      )
      claim(size <= LIMITS.fileBytes && mode <= 0o7777, 'beyond the limits')
      claim(path.length <= LIMITS.pathBytes && link.length <= LIMITS.pathBytes, 'a long path')
      claim(!/[\0\u0100-\uffff]/.test(`${path}${link}`), 'a path of other than bytes')
      let at = 0
      let data = 0
      for (const { offset, length } of sparse ?? []) {
        claim(offset >= at && length >= 0 && offset + length <= size, 'a piece out of order')
        at = offset + length
        data += length
      }
      claim(sparse === undefined || data === dataSize, 'pieces of another size than the content')
    }
  }
  claim(total <= inputBytes, 'more content than input')
}

const seeds: RawEntry[][] = [
  [
    { name: 'd/', type: '5' },
    { name: 'd/f', content: 'x'.repeat(700), uid: 1000, mode: 0o4755 },
    { name: 'l', type: '2', link: 'd/f' },
    { name: 'h', type: '1', link: 'd/f' },
    { name: 'c', type: '3', major: 1, minor: 3 },
    { name: '.wh.x' },
  ],
  [
    {
      name: 'f',
      content: 'x',
      pax: [
        ['path', 'a/'.repeat(60)],
        ['mtime', '1.5'],
        ['uid', '4000000'],
        ['SCHILY.xattr.user.x', 'y'],
        ['SCHILY.xattr.security.capability', Buffer.from([1, 0, 0, 2, 0])],
      ],
    },
  ],
  [{ name: 'g', type: 'g', content: paxRecords([['mtime', '3']]) }, { name: 'f' }],
  [
    { name: '././@LongLink', type: 'L', content: `${'n'.repeat(200)}\0`, magic: 'gnu' },
    { name: '././@LongLink', type: 'K', content: `${'k'.repeat(200)}\0`, magic: 'gnu' },
    { name: 'n', type: '2', magic: 'gnu' },
  ],
  [
    {
      name: 's',
      content: 'abc',
      pax: [
        ['GNU.sparse.size', '1000'],
        ['GNU.sparse.map', '0,1,900,2'],
      ],
    },
  ],
  [
    {
      name: 's',
      content: Buffer.concat([padded(Buffer.from('1\n5\n3\n')), Buffer.from('abc')]),
      pax: [
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', 's'],
        ['GNU.sparse.realsize', '10'],
      ],
    },
  ],
  [
    {
      name: 's',
      type: 'S',
      magic: 'gnu',
      content: 'abc',
      patch: (block) => {
        block.write('00000000000\0', 386, 'latin1')
        block.write('00000000003\0', 398, 'latin1')
        block.write('00000000144\0', 483, 'latin1')
      },
    },
  ],
]

export const tar: Target = {
  run: (input) => {
    const chance = input[0] ?? 0
    const bytes = (chance & 1) === 0 ? repaired(input.subarray(1)) : input.subarray(1)
    const whole = read(bytes, Math.max(bytes.length, 1))
    same(whole, read(bytes, 1 + (chance >> 1)), 'whole, and in pieces')
    if ('value' in whole) check(whole.value, bytes.length)
  },
  seeds: seeds.map((entries) => Buffer.concat([Buffer.from([0x40]), archive(...entries)])),
  words: [
    'ustar\u000000',
    'ustar  \0',
    'path',
    'linkpath',
    'size',
    'uid',
    'gid',
    'mtime',
    'GNU.sparse.map',
    'GNU.sparse.numblocks',
    'GNU.sparse.offset',
    'GNU.sparse.numbytes',
    'GNU.sparse.realsize',
    'SCHILY.xattr.',
    'LIBARCHIVE.xattr.',
    '30 mtime=',
    '\x80\0\0\0',
    '\xff\xff\xff\xff',
    '.wh..wh..opq',
    '../',
  ],
}
