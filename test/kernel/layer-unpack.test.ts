import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { create } from 'tar'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { binding } from '../../src/kernel/binding.ts'
import { isThreadWanted, takeThread, type UnpackOptions } from '../../src/layer/unpack.ts'
import { archive, chunked, failure, padded, Scratch } from '../lib/archive.ts'
import { eventually } from '../lib/eventually.ts'

function xattr(path: string, name: string): Buffer | undefined {
  const fd = openSync(path, 'r')
  try {
    return binding.fgetxattr(fd, name)
  } catch {
    return undefined
  } finally {
    closeSync(fd)
  }
}

function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

test('owners, modes, times, links, devices and attributes are as the archive says', async () => {
  using scratch = new Scratch()
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
  const tree = await scratch.tree(
    { name: './', type: '5', mode: 0o711, uid: 5, mtime: 77 },
    { name: 'bin/', type: '5', mode: 0o1777, uid: 1, gid: 2, mtime: 1000 },
    { name: 'bin/su', content: 'x', mode: 0o6755, uid: 3, gid: 4, mtime: 2000 },
    {
      name: 'bin/ping',
      content: 'y',
      uid: 9,
      pax: [
        ['SCHILY.xattr.security.capability', capability],
        ['SCHILY.xattr.user.note', 'hi'],
        ['mtime', '5.000000007'],
      ],
    },
    { name: 'bin/hard', type: '1', link: './bin/su' },
    { name: 'bin/soft', type: '2', link: '/bin/su', uid: 6, mtime: 3000 },
    { name: 'null', type: '3', major: 1, minor: 3, mode: 0o666 },
    { name: 'loop', type: '4', major: 7, minor: 300 },
    { name: 'pipe', type: '6' },
    { name: 'bin/lhard', type: '1', link: 'bin/soft' },
  )
  const at = (name: string) => lstatSync(join(tree, name), { bigint: true })
  assert.equal(
    [at('.').mode & 0o7777n, at('.').uid, at('.').mtimeNs],
    [0o711n, 5n, 77_000_000_000n],
  )
  assert.equal(
    [at('bin').mode & 0o7777n, at('bin').gid, at('bin').mtimeNs],
    [0o1777n, 2n, 1000_000_000_000n],
  )
  assert.equal(
    [at('bin/su').mode & 0o7777n, at('bin/su').uid, at('bin/su').gid, at('bin/su').nlink],
    [0o6755n, 3n, 4n, 2n],
  )
  assert.is(at('bin/ping').mtimeNs, 5_000_000_007n)
  assert.equal(xattr(join(tree, 'bin/ping'), 'security.capability'), capability)
  assert.equal(xattr(join(tree, 'bin/ping'), 'user.note'), Buffer.from('hi'))
  assert.is(at('bin/hard').ino, at('bin/su').ino)
  assert.is(readlinkSync(join(tree, 'bin/soft')), '/bin/su')
  assert.equal(
    [at('bin/soft').uid, at('bin/soft').mtimeNs, at('bin/lhard').ino],
    [6n, 3000_000_000_000n, at('bin/soft').ino],
  )
  assert.is(at('null').rdev, 0x103n)
  assert.ok(at('loop').isBlockDevice() && at('pipe').isFIFO())
})

test('whiteouts and opaque directories become what overlayfs takes for them', async () => {
  using scratch = new Scratch()
  const tree = await scratch.tree(
    { name: 'a/', type: '5' },
    { name: 'a/.wh.gone' },
    { name: 'b/', type: '5' },
    { name: 'b/.wh..wh..opq' },
    { name: 'b/new', content: 'n' },
    { name: '.wh..wh.plnk/', type: '5' },
    { name: '.wh..wh.plnk/1.2', content: 'x' },
    // A name hidden and brought by one layer: it hides what is below, not its own.
    { name: 'c/', type: '5' },
    { name: 'c/f', content: 'own' },
    { name: '.wh.c' },
    { name: '.wh.d' },
    { name: 'd/e', content: 'own' },
    { name: '.wh.g' },
    { name: 'g', content: 'own' },
  )
  const gone = lstatSync(join(tree, 'a/gone'))
  assert.ok(gone.isCharacterDevice() && gone.rdev === 0)
  assert.is(xattr(join(tree, 'b'), 'trusted.overlay.opaque')?.toString(), 'y')
  assert.is(xattr(join(tree, 'c'), 'trusted.overlay.opaque')?.toString(), 'y')
  assert.is(xattr(join(tree, 'd'), 'trusted.overlay.opaque')?.toString(), 'y')
  assert.is(xattr(join(tree, 'a'), 'trusted.overlay.opaque'), undefined)
  assert.is(readFileSync(join(tree, 'c/f'), 'utf8'), 'own')
  assert.is(readFileSync(join(tree, 'g'), 'utf8'), 'own')
  assert.equal(readdirSync(tree).sort(), ['a', 'b', 'c', 'd', 'g'])
})

test('a whiteout of everything ends the chain there', async () => {
  using scratch = new Scratch()
  const info = await scratch.unpack(archive({ name: '.wh..wh..opq' }, { name: 'f' }))
  assert.ok(info.rootOpaque)
})

test('directories without an entry are 0755 of root, and noted', async () => {
  using scratch = new Scratch()
  const info = await scratch.unpack(
    archive({ name: 'x/y/z', content: '1' }, { name: 'x/', type: '5', mode: 0o700 }),
  )
  assert.equal(info.implicit, ['', 'x/y'])
  assert.is(statSync(join(scratch.store.treePath(info.diffId), 'x')).mode & 0o777, 0o700)
  assert.is(statSync(join(scratch.store.treePath(info.diffId), 'x/y')).mode & 0o777, 0o755)
})

test('the later of two entries of one name wins, whatever the two are', async () => {
  using scratch = new Scratch()
  const tree = await scratch.tree(
    { name: 'a', content: 'first' },
    { name: 'a', content: 'second' },
    { name: 'b/c/d', content: '1' },
    { name: 'b', content: 'a file where a directory was' },
    { name: 'e', content: '1' },
    { name: 'e/', type: '5', mode: 0o700, mtime: 50 },
    { name: 'f', type: '2', link: '/etc' },
    { name: 'f/', type: '5' },
    { name: 'g/', type: '5', mtime: 60 },
    { name: 'g/h', content: '1' },
    { name: 'g/', type: '5', mode: 0o711, mtime: 61 },
  )
  assert.is(readFileSync(join(tree, 'a'), 'utf8'), 'second')
  assert.is(readFileSync(join(tree, 'b'), 'utf8'), 'a file where a directory was')
  assert.ok(lstatSync(join(tree, 'e')).isDirectory() && lstatSync(join(tree, 'f')).isDirectory())
  assert.equal(
    [lstatSync(join(tree, 'g')).mode & 0o777, lstatSync(join(tree, 'g')).mtimeMs],
    [0o711, 61_000],
  )
  assert.equal(readdirSync(join(tree, 'g')), ['h'])
})

test('a sparse file keeps its holes', async () => {
  using scratch = new Scratch()
  const size = 64 * 1024 * 1024
  const data = Buffer.concat([Buffer.alloc(4096, 'a'), Buffer.alloc(4096, 'b')])
  const tree = await scratch.tree({
    name: 's',
    content: data,
    pax: [
      ['GNU.sparse.size', String(size)],
      ['GNU.sparse.map', `0,4096,${size - 4096},4096`],
    ],
  })
  const { size: real, blocks } = statSync(join(tree, 's'))
  assert.is(real, size)
  assert.ok(blocks < 100, `${blocks} blocks`)
  const bytes = readFileSync(join(tree, 's'))
  assert.is(bytes.subarray(0, 4096).toString(), 'a'.repeat(4096))
  assert.is(bytes.subarray(-4096).toString(), 'b'.repeat(4096))
})

test('names of any bytes arrive as they are', async () => {
  using scratch = new Scratch()
  const name = Buffer.concat([Buffer.from('d\n/'), Buffer.from([0xff, 0x01, 0xc3])])
  const tree = await scratch.tree({ name, content: 'x' })
  assert.equal(readdirSync(join(tree, 'd\n'), { encoding: 'buffer' }), [name.subarray(3)])
})

test('archives of GNU tar in every format, and of the tar package, give the same tree', async () => {
  using scratch = new Scratch()
  const source = join(scratch.directory, 'source')
  mkdirSync(join(source, 'x'.repeat(120)), { recursive: true })
  writeFileSync(join(source, 'x'.repeat(120), 'y'.repeat(120)), 'long')
  writeFileSync(join(source, 'big'), Buffer.alloc(700_000, 'z'))
  execFileSync('truncate', ['-s', '4M', join(source, 'hole')])
  writeFileSync(join(source, 'hole'), 'end', { flag: 'a' })
  execFileSync('ln', [join(source, 'big'), join(source, 'hard')])
  const listing = (root: string): string =>
    execFileSync('find', ['.', '-mindepth', '1', '-printf', '%p %y %m %U %G %s %Ts %n %l\n'], {
      cwd: root,
      encoding: 'utf8',
    })
      .split('\n')
      .sort()
      .join('\n')
  const expected = listing(source)
  for (const format of ['gnu', 'oldgnu', 'pax', 'posix']) {
    for (const sparse of [
      [],
      ['--sparse', '--sparse-version=0.0'],
      ['--sparse', '--sparse-version=0.1'],
      ['--sparse', '--sparse-version=1.0'],
    ]) {
      const bytes = execFileSync(
        'tar',
        [`--format=${format}`, ...sparse, '-C', source, '-c', '.'],
        { maxBuffer: 2 ** 26 },
      )
      const info = await scratch.unpack(bytes)
      assert.is(listing(scratch.store.treePath(info.diffId)), expected, `${format} ${sparse}`)
      await scratch.store.remove(info.diffId)
    }
  }
  const file = join(scratch.directory, 'node.tgz')
  await create({ file, gzip: true, cwd: source, portable: false }, ['.'])
  const info = await scratch.unpack(Buffer.alloc(0), { source: file })
  assert.is(listing(scratch.store.treePath(info.diffId)), expected)
})

test('a layer is unpacked once by many at a time, and nothing but it is left', async () => {
  using scratch = new Scratch()
  const bytes = gzipSync(archive({ name: 'f', content: 'x'.repeat(100_000) }))
  const diffId = sha256(archive({ name: 'f', content: 'x'.repeat(100_000) }))
  const infos = await Promise.all(
    [1, 2, 3, 4].map(() =>
      scratch.unpack(bytes, {
        diffId,
        digest: sha256(bytes),
        size: bytes.length,
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      }),
    ),
  )
  assert.is(new Set(infos.map((info) => info.created)).size, 1)
  assert.equal(scratch.store.list(), [infos[0]])
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
  assert.ok(scratch.store.usage().bytes >= 100_000)
})

test('what is wrong in digest, size or diff id never becomes visible', async () => {
  using scratch = new Scratch()
  const plain = archive({ name: 'f', content: 'x' })
  const bytes = gzipSync(plain)
  const wrong = `sha256:${'0'.repeat(64)}`
  for (const [options, text] of [
    [{ digest: wrong }, /its digest is/],
    [{ size: 5 }, /its size is/],
    [{ diffId: wrong }, /its diff id is/],
  ] as const) {
    const { code, message } = await failure(scratch.unpack(bytes, options))
    assert.is(code, 'DATA_LOSS')
    assert.match(message, text)
  }
  assert.equal(scratch.store.list(), [])
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
})

/** As a stored blob: a file, its size and digests. */
function stored(directory: string, plain: Buffer) {
  const bytes = gzipSync(plain)
  const source = join(directory, sha256(bytes).slice(7))
  writeFileSync(source, bytes)
  return { source, size: bytes.length, digest: sha256(bytes), diffId: sha256(plain) }
}

test('a small layer in a file takes no thread, unless there is more in it than it looks like', async () => {
  using scratch = new Scratch()
  const take = (): Disposable[] => {
    const thread = takeThread()
    return thread ? [thread, ...take()] : []
  }
  let threads = take()
  const unpack = (of: Partial<UnpackOptions>) => scratch.unpack(Buffer.alloc(0), of)
  const small = stored(scratch.directory, archive({ name: 'f', content: 'x', mtime: 7 }))
  const wrong = `sha256:${'0'.repeat(64)}`
  for (const [options, text] of [
    [{ digest: wrong }, /its digest is/],
    [{ size: small.size + 1 }, /its size is/],
    [{ diffId: wrong }, /its diff id is/],
  ] as const) {
    assert.match((await failure(unpack({ ...small, ...options }))).message, text)
  }
  const seen: string[] = []
  const info = await unpack({
    ...small,
    onProgress: (bytes) => seen.push(`${bytes}`),
    onUnpacked: () => seen.push('unpacked'),
  })
  assert.equal(seen, [`${small.size}`, 'unpacked'])
  assert.is(readFileSync(join(scratch.store.treePath(info.diffId), 'f'), 'utf8'), 'x')
  // 65 entries, and 2 MiB of zeros in 2 KiB.
  const many = archive(...Array.from({ length: 65 }, (_, i) => ({ name: `f${i}`, content: 'x' })))
  for (const plain of [many, archive({ name: 'zeros', content: Buffer.alloc(2 << 20) })]) {
    const large = stored(scratch.directory, plain)
    const unpacked = unpack(large)
    await eventually('it waits for a thread', isThreadWanted)
    assert.is(scratch.store.has(large.diffId), false)
    for (const thread of threads) thread[Symbol.dispose]()
    const { inodes } = await unpacked
    threads = take()
    assert.is(inodes, plain === many ? 66 : 2)
  }
  for (const thread of threads) thread[Symbol.dispose]()
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
})

test('an unknown media type is refused by name', async () => {
  using scratch = new Scratch()
  const { code, message } = await failure(
    scratch.unpack(Buffer.alloc(0), {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
    }),
  )
  assert.is(code, 'UNIMPLEMENTED')
  assert.match(message, /encrypted/)
})

test('a source that fails, and an abort, leave nothing', async () => {
  using scratch = new Scratch()
  const source = async function* (): AsyncGenerator<Buffer> {
    yield padded(archive({ name: 'f' }).subarray(0, 512))
    throw Object.assign(new Error('reset'), { code: 'ECONNRESET' })
  }
  assert.is(
    (await failure(scratch.unpack(Buffer.alloc(0), { source: source() }))).code,
    'ECONNRESET',
  )
  const controller = new AbortController()
  const slow = async function* (): AsyncGenerator<Buffer> {
    yield archive({ name: 'f', content: 'x' }).subarray(0, 700)
    controller.abort()
    yield* chunked(Buffer.alloc(512))
  }
  try {
    await scratch.unpack(Buffer.alloc(0), { source: slow(), signal: controller.signal })
    assert.unreachable('it was not aborted')
  } catch (error) {
    assert.is(error instanceof Error ? error.name : '', 'AbortError')
  }
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
  assert.equal(scratch.store.list(), [])
})

test('debris of a dead writer is collected, the work of a living one is not', async () => {
  using scratch = new Scratch()
  const mine = scratch.store.begin()
  mkdirSync(join(scratch.store.directory, 'tmp', 'dead', 'tree', 'x'), { recursive: true })
  assert.is(await scratch.store.collectTemporary(), 1)
  assert.ok(statSync(mine.tree).isDirectory())
  await mine.discard()
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
})

test('a layer that is removed is gone, however deep it is', async () => {
  using scratch = new Scratch()
  const info = await scratch.unpack(archive({ name: 'f' }))
  const fd = openSync(scratch.store.treePath(info.diffId), 'r')
  let at = fd
  for (let i = 0; i < 5000; i++) {
    binding.mkdirat(at, 'deep', 0o755)
    const next = binding.openat2(at, 'deep', 0o200000, 0, 0)
    if (at !== fd) closeSync(at)
    at = next
  }
  closeSync(at)
  closeSync(fd)
  await scratch.store.remove(info.diffId)
  assert.is(scratch.store.has(info.diffId), false)
  assert.equal(readdirSync(join(scratch.store.directory, 'tmp')), [])
})

test.run()
