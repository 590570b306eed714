import { mkdirSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../src/base/fault.ts'
import { binding } from '../../src/kernel/binding.ts'
import * as k from '../../src/kernel/constants.ts'
import { Fd } from '../../src/kernel/fd.ts'
import { overlayMount } from '../../src/kernel/mount-api.ts'
import { needs } from '../lib/needs.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'overlay')

let directory = ''
let root = new Fd(openSync('/', 'r'))
test.before.each(() => {
  directory = testDirectory()
  root = new Fd(openSync(directory, 'r'))
})
test.after.each(() => {
  root.close()
  rmSync(directory, { recursive: true })
})

test('many files are read at once: their bytes, or why not', async () => {
  const at = (name: string): string => join(directory, name)
  writeFileSync(at('text'), 'a\u00e9\0b')
  writeFileSync(at('empty'), '')
  writeFileSync(at('most'), Buffer.alloc(1024 * 1024, 120))
  writeFileSync(at('more'), Buffer.alloc(1024 * 1024 + 1, 120))
  const names = ['text', 'empty', 'most', 'more', 'missing', '.']
  const [text, empty, most, ...errors] = await binding.readFiles(names.map(at))
  assert.is(text, 'a\u00c3\u00a9\0b')
  assert.is(empty, '')
  assert.is(String(most).length, 1024 * 1024)
  const { EFBIG, ENOENT, EISDIR } = osConstants.errno
  assert.equal(errors, [EFBIG, ENOENT, EISDIR])
  assert.equal(await binding.readFiles([]), [])
})

test('nodes of every kind are made with their numbers, 20 bits of minor included', () => {
  for (const [type, major, minor] of [
    [k.S_IFCHR, 1, 3],
    [k.S_IFBLK, 0xfff, 0xfffff],
    [k.S_IFIFO, 0, 0],
    [k.S_IFSOCK, 0, 0],
    [k.S_IFCHR, 0, 0],
  ] as const) {
    binding.mknodat(root.number, 'node', type | 0o640, major, minor)
    binding.setAttributes(root.number, 'node', 0o640, 1000, -1, undefined, undefined)
    const found = binding.statx(root.number, 'node', k.AT_SYMLINK_NOFOLLOW)
    assert.equal(
      [found.mode, found.rdevMajor, found.rdevMinor, found.uid, found.gid],
      [type | 0o640, major, minor, 1000, 0],
    )
    binding.unlinkat(root.number, 'node', 0)
  }
})

test('data and holes of a file are found, and its end is ENXIO', () => {
  truncateSync(writtenFile('holes'), 10_000_000)
  using file = new Fd(binding.openat2(root.number, 'holes', k.O_RDONLY, 0, 0))
  assert.is(binding.lseek(file.number, 0, k.SEEK_DATA), 0)
  const hole = binding.lseek(file.number, 0, k.SEEK_HOLE)
  assert.ok(hole > 0 && hole <= 65536)
  assert.throws(
    () => binding.lseek(file.number, hole, k.SEEK_DATA),
    (error: unknown) => isErrno(error, 'ENXIO'),
  )
})

test('where nothing is there openat2 says so without an error, if it is asked to, and for nothing else', () => {
  const open = (name: string, flags: number, orMissing?: boolean) =>
    binding.openat2(root.number, name, flags, 0, 0, orMissing)
  const fails = (code: string) => (error: unknown) => isErrno(error, code)
  assert.is(open('nothing', k.O_PATH, true), -1)
  assert.throws(() => open('nothing', k.O_PATH, false), fails('ENOENT'))
  assert.throws(() => open('nothing', k.O_PATH), fails('ENOENT'))
  writtenFile('no directory')
  assert.throws(() => open('no directory', k.O_PATH | k.O_DIRECTORY, true), fails('ENOTDIR'))
  using file = new Fd(open('no directory', k.O_PATH, true))
  assert.ok(file.number >= 0)
})

function writtenFile(name: string): string {
  const path = join(directory, name)
  writeFileSync(path, 'data')
  return path
}

test('attributes of files, devices and links are set on them and never on what they lead to', () => {
  writeFileSync(join(directory, 'file'), '')
  binding.symlinkat('file', root.number, 'link')
  binding.mknodat(root.number, 'fifo', k.S_IFIFO | 0o600, 0, 0)
  const value = Buffer.from([0, 1, 255, 0])
  for (const name of ['file', 'fifo', 'link']) {
    using fd = new Fd(binding.openat2(root.number, name, k.O_PATH | k.O_NOFOLLOW, 0, 0))
    binding.fsetxattr(fd.number, 'trusted.berth', value, k.XATTR_CREATE)
    assert.throws(
      () => binding.fsetxattr(fd.number, 'trusted.berth', value, k.XATTR_CREATE),
      (error: unknown) => isErrno(error, 'EEXIST'),
    )
    assert.equal(binding.fgetxattr(fd.number, 'trusted.berth'), value)
    assert.ok(binding.flistxattr(fd.number).includes('trusted.berth'))
    assert.throws(
      () => binding.fgetxattr(fd.number, 'trusted.other'),
      (error: unknown) => isErrno(error, 'ENODATA'),
    )
  }
  using file = new Fd(openSync(join(directory, 'file'), 'r+'))
  const long = Buffer.alloc(2000, 7)
  binding.fsetxattr(file.number, 'trusted.long', long, 0)
  assert.equal(binding.fgetxattr(file.number, 'trusted.long'), long)
})

function layers(count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const path = join(directory, `layer:${i}`)
    mkdirSync(path)
    writeFileSync(join(path, `only-${i}`), '')
    writeFileSync(join(path, 'all'), String(i))
    return path
  })
}

const mountTable = (): string => readFileSync('/proc/self/mountinfo', 'utf8')

for (const count of [1, 2, 120]) {
  test(`a read-only view of ${count} layers is in no mount table and shows the topmost file`, () => {
    const before = mountTable()
    using view = overlayMount({ lower: layers(count) })
    const at = `/proc/self/fd/${view.number}`
    assert.is(readFileSync(`${at}/all`, 'utf8'), '0')
    assert.is(readFileSync(`${at}/only-${count - 1}`, 'utf8'), '')
    assert.throws(
      () => writeFileSync(`${at}/all`, 'x'),
      (e: unknown) => isErrno(e, 'EROFS'),
    )
    assert.is(mountTable(), before)
  })
}

test('what is written through a view goes to the upper layer alone', () => {
  const lower = layers(2)
  const [upper, work] = [join(directory, 'upper'), join(directory, 'work')]
  mkdirSync(upper)
  mkdirSync(work)
  {
    using view = overlayMount({ lower, upper, work, options: ['index=off'] })
    writeFileSync(`/proc/self/fd/${view.number}/all`, 'mine')
  }
  assert.is(readFileSync(join(upper, 'all'), 'utf8'), 'mine')
  assert.is(readFileSync(join(lower[0] ?? '', 'all'), 'utf8'), '0')
})

test('a mount that fails says which layer and what the file system says', () => {
  const [layer = ''] = layers(1)
  assert.throws(
    () => overlayMount({ lower: [layer, join(directory, 'missing')] }),
    (error: unknown) => error instanceof Error && /fsconfig '.*missing'/.test(error.message),
  )
  assert.throws(() => overlayMount({ lower: [layer, layer], options: ['nonsense=1'] }), /nonsense/)
})

test('a file system is written out', async () => {
  await binding.syncfs(root.number)
})

test.run()
