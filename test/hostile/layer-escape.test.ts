import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { archive, failure, type RawEntry, Scratch } from '../lib/archive.ts'

/** Attacks that try to write, link or change something outside the layer's tree; `victim` stands beside it. */
const contained: { name: string; entries: (victim: string) => RawEntry[] }[] = [
  {
    name: 'names with ..',
    entries: () => [
      { name: '../../../../../../victim/owned', content: 'x' },
      { name: 'a/../../../victim/owned', content: 'x' },
    ],
  },
  { name: 'absolute names', entries: (victim) => [{ name: `${victim}/owned`, content: 'x' }] },
  {
    name: 'a file through an absolute link',
    entries: (victim) => [
      { name: 'l', type: '2', link: victim },
      { name: 'l/owned', content: 'x' },
    ],
  },
  {
    name: 'a file through a relative link',
    entries: () => [
      { name: 'l', type: '2', link: '../../../../../victim' },
      { name: 'l/owned', content: 'x' },
    ],
  },
  {
    name: 'a file through two links',
    entries: () => [
      { name: 'a', type: '2', link: '..' },
      { name: 'b', type: '2', link: 'a/../../../../victim' },
      { name: 'b/owned', content: 'x' },
    ],
  },
  {
    name: 'a file over a link',
    entries: (victim) => [
      { name: 'l', type: '2', link: `${victim}/file` },
      { name: 'l', content: 'owned' },
    ],
  },
  {
    name: 'a large file over a link',
    entries: (victim) => [
      { name: 'l', type: '2', link: `${victim}/file` },
      { name: 'l', content: 'owned'.repeat(100_000) },
    ],
  },
  {
    name: 'a directory over a link',
    entries: (victim) => [
      { name: 'l', type: '2', link: victim },
      { name: 'l/', type: '5', mode: 0o777 },
      { name: 'l/owned', content: 'x' },
    ],
  },
  {
    name: 'a device over a link',
    entries: (victim) => [
      { name: 'l', type: '2', link: `${victim}/file` },
      { name: 'l', type: '3', major: 1, minor: 3 },
    ],
  },
  {
    name: 'a whiteout through a link',
    entries: (victim) => [{ name: 'l', type: '2', link: victim }, { name: 'l/.wh.file' }],
  },
  {
    name: 'an opaque mark through a link',
    entries: (victim) => [{ name: 'l', type: '2', link: victim }, { name: 'l/.wh..wh..opq' }],
  },
  {
    name: 'a hard link to a link, then written',
    entries: (victim) => [
      { name: 'l', type: '2', link: `${victim}/file` },
      { name: 'h', type: '1', link: 'l' },
      { name: 'h', content: 'owned' },
    ],
  },
  {
    name: 'a directory replaced by a link between two entries',
    entries: (victim) => [
      { name: 'd/', type: '5', mode: 0o777, mtime: 5 },
      { name: 'd/f', content: 'x' },
      { name: 'd', type: '2', link: victim },
      { name: 'd/owned', content: 'x' },
    ],
  },
  {
    name: 'a link into /proc',
    entries: () => [
      { name: 'l', type: '2', link: '/proc/self/cwd' },
      { name: 'l/owned', content: 'x' },
    ],
  },
]

for (const { name, entries } of contained) {
  test(`${name}: all stays below the root`, async () => {
    using scratch = new Scratch()
    const victim = join(scratch.directory, 'victim')
    mkdirSync(victim, { mode: 0o750 })
    writeFileSync(join(victim, 'file'), 'untouched', { mode: 0o640 })
    const before = lstatSync(victim)
    const fileBefore = lstatSync(join(victim, 'file'))
    await scratch.tree(...entries(victim))
    assert.equal(readdirSync(victim), ['file'])
    assert.is(readFileSync(join(victim, 'file'), 'utf8'), 'untouched')
    const after = lstatSync(victim)
    const fileAfter = lstatSync(join(victim, 'file'))
    assert.equal(
      [after.mode, after.mtimeMs, after.ctimeMs],
      [before.mode, before.mtimeMs, before.ctimeMs],
    )
    assert.equal(
      [fileAfter.mode, fileAfter.nlink, fileAfter.ctimeMs],
      [fileBefore.mode, 1, fileBefore.ctimeMs],
    )
    assert.equal(readdirSync(scratch.directory).sort(), ['root', 'victim'])
  })
}

const refused: { name: string; entries: RawEntry[]; text: RegExp }[] = [
  {
    name: 'a hard link out of the root',
    entries: [{ name: 'h', type: '1', link: '../../../../../../etc/passwd' }],
    text: /outside the archive/,
  },
  {
    name: 'a hard link to a host file by its absolute name',
    entries: [{ name: 'h', type: '1', link: '/etc/passwd' }],
    text: /no file of the same archive/,
  },
  {
    name: 'a hard link through a link',
    entries: [
      { name: 'l', type: '2', link: '/etc' },
      { name: 'h', type: '1', link: 'l/passwd' },
    ],
    text: /no file of the same archive/,
  },
  {
    name: 'a hard link to a directory',
    entries: [
      { name: 'd/', type: '5' },
      { name: 'h', type: '1', link: 'd' },
    ],
    text: /no file of the same archive/,
  },
  {
    name: 'a hard link to a whiteout',
    entries: [{ name: '.wh.w' }, { name: 'h', type: '1', link: 'w' }],
    text: /no file of the same archive/,
  },
  {
    name: 'a hard link to itself',
    entries: [
      { name: 'f', content: 'x' },
      { name: 'f', type: '1', link: './f' },
    ],
    text: /to itself/,
  },
  { name: 'a whiteout above the root', entries: [{ name: '../.wh.etc' }], text: /above the root/ },
  {
    name: 'an opaque mark above the root',
    entries: [{ name: '../../.wh..wh..opq' }],
    text: /above the root/,
  },
  { name: 'a whiteout of no name', entries: [{ name: 'a/.wh.' }], text: /names no file/ },
  { name: 'a whiteout of .', entries: [{ name: 'a/.wh..' }], text: /names no file/ },
  { name: 'a whiteout of ..', entries: [{ name: 'a/.wh...' }], text: /names no file/ },
  { name: 'an entry below a whiteout', entries: [{ name: '.wh.a/b' }], text: /below a whiteout/ },
  {
    name: 'the device that is a whiteout',
    entries: [{ name: 'x', type: '3', major: 0, minor: 0 }],
    text: /0:0/,
  },
  {
    name: 'a file in place of the root',
    entries: [{ name: '/', content: 'x' }],
    text: /root itself/,
  },
  {
    name: 'a link in place of the root',
    entries: [{ name: 'a/..', type: '2', link: '/etc' }],
    text: /root itself/,
  },
  {
    name: 'an entry below a file',
    entries: [
      { name: 'f', content: 'x' },
      { name: 'f/g', content: 'y' },
    ],
    text: /is no directory/,
  },
  {
    name: 'links that lead in a circle',
    entries: [
      { name: 'a', type: '2', link: 'b' },
      { name: 'b', type: '2', link: 'a' },
      { name: 'a/f' },
    ],
    text: /too many symbolic links/,
  },
  {
    name: 'a directory deeper than any',
    entries: [{ name: 'f', pax: [['path', `${'d/'.repeat(1500)}f`]] }],
    text: /directories deep/,
  },
  {
    name: 'a name longer than a file system takes',
    entries: [{ name: 'f', pax: [['path', 'n'.repeat(300)]] }],
    text: /ENAMETOOLONG/,
  },
  {
    name: 'an owner that would mean "unchanged"',
    entries: [{ name: 'f', pax: [['uid', '4294967295']] }],
    text: /no user id/,
  },
  {
    name: 'a device number out of range',
    entries: [{ name: 'x', type: '4', major: 4096, minor: 1 }],
    text: /device number/,
  },
]
for (const { name, entries, text } of refused) {
  test(`refused, and nothing is left: ${name}`, async () => {
    using scratch = new Scratch()
    const { message } = await failure(scratch.unpack(archive(...entries)))
    assert.match(message, text)
    assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
    assert.equal(scratch.store.list(), [])
  })
}

test.run()
