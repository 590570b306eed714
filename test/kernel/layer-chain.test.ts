import { execFileSync } from 'node:child_process'
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../src/kernel/binding.ts'
import { overlayMount } from '../../src/kernel/mount-api.ts'
import {
  extractInto,
  layerChanges,
  packTree,
  packUpper,
  prepareChain,
  prepareUpper,
} from '../../src/layer/index.ts'
import { archive, chunked, failure, type RawEntry, Scratch } from '../lib/archive.ts'

async function layers(scratch: Scratch, ...all: RawEntry[][]): Promise<string[]> {
  const ids: string[] = []
  for (const entries of all) ids.push((await scratch.unpack(archive(...entries))).diffId)
  return ids
}

test('a chain is topmost first, and overlayfs shows what the layers say together', async () => {
  using scratch = new Scratch()
  const ids = await layers(
    scratch,
    [
      { name: 'etc/', type: '5' },
      { name: 'etc/a', content: '1' },
      { name: 'etc/b', content: '1' },
      { name: 'd/', type: '5' },
      { name: 'd/old', content: '1' },
    ],
    [
      { name: 'etc/', type: '5' },
      { name: 'etc/.wh.a' },
      { name: 'd/', type: '5' },
      { name: 'd/.wh..wh..opq' },
      { name: 'd/new', content: '2' },
    ],
    [
      { name: 'etc/', type: '5' },
      { name: 'etc/b', content: '3' },
    ],
  )
  const chain = await prepareChain(scratch.store, ids)
  assert.equal(
    chain.lower,
    ids.toReversed().map((id) => scratch.store.treePath(id)),
  )
  using root = overlayMount({ lower: chain.lower })
  const path = `/proc/self/fd/${root.number}`
  assert.equal(readdirSync(join(path, 'etc')), ['b'])
  assert.is(readFileSync(join(path, 'etc/b'), 'utf8'), '3')
  assert.equal(readdirSync(join(path, 'd')), ['new'])
})

test('a directory that an upper layer only implies keeps the attributes of the lower one', async () => {
  using scratch = new Scratch()
  const ids = await layers(
    scratch,
    [
      { name: './', type: '5', mode: 0o750, uid: 3 },
      {
        name: 'tmp/',
        type: '5',
        mode: 0o1777,
        uid: 4,
        mtime: 1234,
        pax: [['SCHILY.xattr.user.a', 'b']],
      },
      { name: 'tmp/s/', type: '5', mode: 0o700, uid: 8, mtime: 99 },
      { name: 'gone/', type: '5', mode: 0o700 },
    ],
    [{ name: 'tmp/s/f', content: 'x' }, { name: '.wh.gone' }],
    [{ name: 'gone/f', content: 'x' }],
  )
  const chain = await prepareChain(scratch.store, ids)
  assert.is(chain.lower.length, 4)
  const again = await prepareChain(scratch.store, ids)
  assert.equal(again, chain)
  const upper = join(scratch.directory, 'upper')
  const work = join(scratch.directory, 'work')
  mkdirSync(upper)
  mkdirSync(work)
  prepareUpper(chain, upper)
  using root = overlayMount({ lower: chain.lower, upper, work })
  const at = (name: string) => statSync(join(`/proc/self/fd/${root.number}`, name))
  assert.equal([at('.').mode & 0o7777, at('.').uid], [0o750, 3])
  assert.equal([at('tmp').mode & 0o7777, at('tmp').uid, at('tmp').mtimeMs], [0o1777, 4, 1234_000])
  assert.equal(
    [at('tmp/s').mode & 0o7777, at('tmp/s').uid, at('tmp/s').mtimeMs],
    [0o700, 8, 99_000],
  )
  // Removed by a layer between, so it is a new directory.
  assert.is(at('gone').mode & 0o7777, 0o755)
  assert.equal(scratch.store.listFixups().length, 1)
  await scratch.store.removeFixup(scratch.store.listFixups()[0] ?? '')
  assert.equal(scratch.store.listFixups(), [])
})

test('a layer given twice, an empty image and a layer that hides all below it', async () => {
  using scratch = new Scratch()
  const [a = '', b = '', c = ''] = await layers(
    scratch,
    [{ name: 'a' }],
    [{ name: 'b' }],
    [{ name: '.wh..wh..opq' }, { name: 'c' }],
  )
  const tree = (id: string): string => scratch.store.treePath(id)
  assert.equal((await prepareChain(scratch.store, [a, b, a])).lower, [tree(a), tree(b)])
  assert.equal((await prepareChain(scratch.store, [a, c, b])).lower, [tree(b), tree(c)])
  const empty = await prepareChain(scratch.store, [])
  assert.is(empty.lower.length, 1)
  assert.equal(readdirSync(empty.lower[0] ?? ''), [])
  assert.is(
    (await failure(prepareChain(scratch.store, [`sha256:${'0'.repeat(64)}`]))).code,
    'NOT_FOUND',
  )
})

test('changes of an upper directory: added, changed, deleted, also by an opaque directory', async () => {
  using scratch = new Scratch()
  const ids = await layers(scratch, [
    { name: 'etc/', type: '5' },
    { name: 'etc/a', content: '1' },
    { name: 'etc/b', content: '1' },
    { name: 'd/', type: '5' },
    { name: 'd/x', content: '1' },
    { name: 'd/y', content: '1' },
  ])
  const { lower } = await prepareChain(scratch.store, ids)
  const [upper, work] = [join(scratch.directory, 'upper'), join(scratch.directory, 'work')]
  mkdirSync(upper)
  mkdirSync(work)
  {
    using root = overlayMount({ lower, upper, work })
    const path = `/proc/self/fd/${root.number}`
    execFileSync(
      'sh',
      [
        '-c',
        'rm etc/a; echo 2 >etc/b; echo 3 >etc/c; rm -r d; mkdir d; echo 4 >d/y; mkdir n; touch n/f',
      ],
      { cwd: path },
    )
  }
  assert.equal(
    layerChanges({ lower, upper, mounted: [] }).map(({ kind, path }) => `${kind} ${path}`),
    ['C /d', 'D /d/x', 'C /d/y', 'C /etc', 'D /etc/a', 'C /etc/b', 'A /etc/c', 'A /n', 'A /n/f'],
  )
})

async function collected(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const chunk of chunks) parts.push(chunk)
  return Buffer.concat(parts)
}

async function packed(
  root: string,
  options: { path?: string; base?: string } = {},
): Promise<Buffer> {
  const rootFd = openSync(root, 'r')
  try {
    return await collected(packTree({ rootFd, ...options }))
  } finally {
    closeSync(rootFd)
  }
}

test('what is packed and unpacked again is the same tree, and GNU tar reads it', async () => {
  using scratch = new Scratch()
  const tree = await scratch.tree(
    { name: './', type: '5', mode: 0o700 },
    { name: 'd/', type: '5', mode: 0o1777, uid: 5, mtime: 7 },
    {
      name: 'd/f',
      content: 'hello',
      mode: 0o4711,
      uid: 3_000_000,
      pax: [
        ['mtime', '9.000000001'],
        ['SCHILY.xattr.user.x', Buffer.from([0, 10, 255])],
        ['uid', '3000000'],
      ],
    },
    { name: 'h', type: '1', link: 'd/f' },
    { name: 'l', type: '2', link: 'x'.repeat(99), pax: [['linkpath', 'y'.repeat(300)]] },
    { name: Buffer.from([0xff, 0xfe]), content: 'z'.repeat(3000) },
    { name: 'n', type: '3', major: 1, minor: 3 },
    { name: 'p', type: '6' },
    { name: '.wh.w' },
    { name: 'o/', type: '5' },
    { name: 'o/.wh..wh..opq' },
  )
  const bytes = await collected(packUpper({ upper: tree, lower: [], mounted: [] }))
  const info = await scratch.unpack(bytes)
  const second = scratch.store.treePath(info.diffId)
  assert.equal(await collected(packUpper({ upper: second, lower: [], mounted: [] })), bytes)
  assert.is(lstatSync(join(second, 'd/f'), { bigint: true }).mtimeNs, 9_000_000_001n)
  const names = execFileSync('tar', ['-tf', '-'], { input: bytes, encoding: 'utf8' })
    .trim()
    .split('\n')
  assert.is(names.length, 11)
  const one = execFileSync('tar', ['-tf', '-'], {
    input: await packed(tree, { path: '/d/../d', base: 'new' }),
    encoding: 'utf8',
  })
  assert.is(one, 'new/\nnew/f\n')
  assert.is((await failure(packed(tree, { path: 'd/none' }))).code, 'NOT_FOUND')
})

test('extracting into a tree keeps what is there, gives it an owner, and stays below its root', async () => {
  using scratch = new Scratch()
  const root = join(scratch.directory, 'rootfs')
  const victim = join(scratch.directory, 'victim')
  mkdirSync(join(root, 'data/keep'), { recursive: true })
  mkdirSync(victim)
  execFileSync('ln', ['-s', '../../../victim', join(root, 'escape')])
  execFileSync('ln', ['-s', '/data', join(root, 'link')])
  const rootFd = openSync(root, 'r')
  const into = (path: string, ...entries: RawEntry[]): Promise<void> =>
    extractInto({ rootFd, path, source: chunked(archive(...entries)), owner: { uid: 7, gid: 8 } })
  try {
    await into(
      'link',
      { name: 'f', content: 'x', uid: 1 },
      { name: 'keep/', type: '5' },
      { name: '../../up', content: 'x' },
    )
    await into('escape', { name: 'owned', content: 'x' })
    const { code } = await failure(into('/', { name: 'data', content: 'x' }))
    assert.is(code, 'FAILED_PRECONDITION')
  } finally {
    closeSync(rootFd)
  }
  assert.equal(readdirSync(join(root, 'data')).sort(), ['f', 'keep', 'up'])
  assert.equal([statSync(join(root, 'data/f')).uid, statSync(join(root, 'data/f')).gid], [7, 8])
  assert.equal(readdirSync(victim), [])
  assert.equal(readdirSync(join(root, 'victim')), ['owned'])
})

test('usage counts a hard link once', async () => {
  using scratch = new Scratch()
  const tree = join(scratch.directory, 'u')
  mkdirSync(tree)
  writeFileSync(join(tree, 'a'), Buffer.alloc(100_000, 'x'))
  const fd = openSync(tree, 'r')
  try {
    binding.linkat(fd, 'a', fd, 'b', 0)
    const { bytes, inodes } = await binding.treeUsage(fd)
    assert.is(inodes, 2)
    assert.ok(bytes >= 100_000 && bytes < 200_000)
  } finally {
    closeSync(fd)
  }
})

test.run()
