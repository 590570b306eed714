import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../../src/base/fault.ts'
import { binding } from '../../../src/kernel/binding.ts'
import * as k from '../../../src/kernel/constants.ts'
import { Fd } from '../../../src/kernel/fd.ts'

let directory = ''
let root = new Fd(openSync('/', 'r'))
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'berth-binding-'))
  root = new Fd(openSync(directory, 'r'))
})
test.after.each(() => {
  root.close()
  rmSync(directory, { recursive: true })
})

/** 'é' in Latin-1: no UTF-8. */
const HOSTILE = Buffer.from([0x66, 0xe9, 0x0a])

const NO_FOLLOW = k.AT_SYMLINK_NOFOLLOW

test('a failed call tells code, negative errno, call and path', () => {
  try {
    binding.mkdirat(root.number, 'a/b', 0o755)
    assert.unreachable()
  } catch (error) {
    assert.ok(error instanceof Error)
    const { code, errno, syscall, path } = Object.assign(
      { code: '', errno: 0, syscall: '', path: '' },
      error,
    )
    assert.equal([code, errno, syscall, path], ['ENOENT', -2, 'mkdirat', 'a/b'])
    assert.match(error.message, /^ENOENT: No such file or directory, mkdirat 'a\/b'$/)
  }
})

const WRONG: [string, () => unknown, RegExp][] = [
  ['a path that is a number', () => Reflect.apply(binding.mkdirat, null, [3, 4, 0]), /^path must/],
  ['a missing argument', () => Reflect.apply(binding.mkdirat, null, [3]), /^path must/],
  ['an fd that is text', () => Reflect.apply(binding.mkdirat, null, ['3', 'a', 0]), /^dirfd must/],
  ['half an fd', () => binding.mkdirat(0.5, 'a', 0), /^dirfd must/],
  ['an fd of 2^32', () => binding.mkdirat(2 ** 32, 'a', 0), /^dirfd must/],
  ['a negative mode', () => binding.mkdirat(3, 'a', -1), /^mode must/],
  ['NaN', () => binding.mkdirat(Number.NaN, 'a', 0), /^dirfd must/],
  ['a NUL in a string', () => binding.mkdirat(3, 'a\0b', 0), /^path must be free of NUL/],
  ['a NUL in bytes', () => binding.mkdirat(3, Buffer.from('a\0b'), 0), /^path must be free of NUL/],
  [
    'a uid of -2',
    () => binding.setAttributes(3, 'a', -1, -2, -1, undefined, undefined),
    /^uid must/,
  ],
  [
    'a number for a time',
    () => Reflect.apply(binding.setAttributes, null, [3, 'a', -1, -1, -1, 1]),
    /^mtimeNs/,
  ],
  [
    'a time of 65 bits',
    () => binding.setAttributes(3, 'a', -1, -1, -1, 2n ** 64n, undefined),
    /^mtimeNs must/,
  ],
  ['text for bytes', () => Reflect.apply(binding.fsetxattr, null, [3, 'user.a', 'b', 0]), /^value/],
  ['a list that is none', () => Reflect.apply(binding.spawn, null, [{ args: 'x' }]), /^args must/],
  ['no options', () => Reflect.apply(binding.overlayMount, null, []), /^options must/],
]
for (const [name, call, message] of WRONG) {
  test(`${name} is a TypeError that names the argument`, () => {
    assert.throws(
      call,
      (error: unknown) => error instanceof TypeError && message.test(error.message),
    )
  })
}

test('names that are no UTF-8 go in and come out as they are', () => {
  const { number } = root
  binding.mkdirat(number, HOSTILE, 0o755)
  binding.symlinkat(HOSTILE, number, 'link')
  assert.equal(binding.readlinkat(number, 'link'), HOSTILE)
  const found = binding.readdir(number).sort((a, b) => a.name.compare(b.name))
  assert.equal(found, [
    { name: HOSTILE, type: k.DT_DIR },
    { name: Buffer.from('link'), type: k.DT_LNK },
  ])
  assert.is(binding.statx(number, HOSTILE, NO_FOLLOW).mode & k.S_IFMT, k.S_IFDIR)
  binding.unlinkat(number, HOSTILE, k.AT_REMOVEDIR)
})

test('names of every length arrive whole', () => {
  for (const length of [1, 200, 255]) {
    for (const name of ['a'.repeat(length), 'é'.repeat(Math.floor(length / 2) || 1)]) {
      binding.symlinkat(name, root.number, name)
      assert.is(binding.readlinkat(root.number, name).toString(), name)
    }
  }
  for (const length of [505, 506, 507, 508, 509, 510, 511, 512, 513, 1024, 4095]) {
    for (const target of ['b'.repeat(length), '€'.repeat(Math.floor(length / 3))]) {
      binding.symlinkat(target, root.number, 'long')
      assert.is(binding.readlinkat(root.number, 'long').toString(), target)
      binding.unlinkat(root.number, 'long', 0)
    }
  }
  assert.throws(
    () => binding.symlinkat('c'.repeat(5000), root.number, 'long'),
    (error: unknown) => isErrno(error, 'ENAMETOOLONG'),
  )
})

test('times are kept to the nanosecond, also before 1970, also of a link', () => {
  binding.symlinkat('nowhere', root.number, 'link')
  for (const time of [0n, 1_234_567_890_123_456_789n, -1n, -1_000_000_001n]) {
    binding.setAttributes(root.number, 'link', -1, -1, -1, time, undefined)
    assert.is(binding.statx(root.number, 'link', NO_FOLLOW).mtimeNs, time)
  }
})

test('a directory is read from its beginning each time, whatever its size', () => {
  for (let i = 0; i < 3000; i++) binding.symlinkat('x', root.number, `a-rather-long-name-${i}`)
  assert.is(new Set(binding.readdir(root.number).map((e) => e.name.toString())).size, 3000)
  assert.is(binding.readdir(root.number).length, 3000)
})

test('every fd is close-on-exec', () => {
  using fd = new Fd(binding.openat2(root.number, '.', k.O_PATH, 0, 0))
  const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd.number}`, 'utf8'))
  assert.ok(Number.parseInt(flags?.[1] ?? '', 8) & 0o2000000)
})

test('a lock excludes other open files, and its waiter gets it', async () => {
  const path = join(directory, 'lock')
  using a = new Fd(openSync(path, 'w'))
  using b = new Fd(openSync(path, 'r'))
  binding.flock(a.number, true)
  assert.throws(
    () => binding.flock(b.number, false),
    (e: unknown) => isErrno(e, 'EAGAIN'),
  )
  let got = false
  const waiting = binding.flockWait(b.number, true).then(() => {
    got = true
  })
  await new Promise(setImmediate)
  assert.is(got, false)
  a.close()
  await waiting
  assert.is(got, true)
})

test('what fails on its own thread rejects', async () => {
  const file = openSync(join(directory, 'x'), 'w')
  closeSync(file)
  // One after the other: a rejection that nobody awaits yet would end the process.
  for (const call of [() => binding.syncfs(file), () => binding.flockWait(file, true)]) {
    await call().then(
      () => assert.unreachable(),
      (error: unknown) => assert.ok(isErrno(error, 'EBADF')),
    )
  }
  assert.throws(
    () => binding.pollPriority(file, 0),
    (error: unknown) => isErrno(error, 'EBADF'),
  )
})

test('several directories and files are made in order, up to the first that fails', async () => {
  const { S_IFDIR, S_IFREG } = constants
  const [a, b, c] = ['a', 'a/b', 'a/c'].map((name) => join(directory, name))
  if (!a || !b || !c) throw new Error()
  await binding.makeNodes([a, b], [S_IFDIR | 0o700, S_IFREG | 0o600])
  assert.is(statSync(a).mode, S_IFDIR | 0o700)
  assert.is(statSync(b).mode, S_IFREG | 0o600)
  const again = binding.makeNodes([a, b, c], [S_IFDIR | 0o711, S_IFREG | 0o600, S_IFREG | 0o600])
  const error = await again.then(
    () => undefined,
    (reason: Error) => reason,
  )
  assert.is(error?.message, `EEXIST: File exists, open '${b}'`)
  assert.is(statSync(a).mode, S_IFDIR | 0o700)
  assert.not.ok(existsSync(c))
  await binding.makeNodes([join(b, 'd')], [S_IFDIR | 0o700]).then(
    () => assert.unreachable(),
    (reason: unknown) => assert.ok(isErrno(reason, 'ENOTDIR')),
  )
  assert.throws(() => binding.makeNodes([a], []), /modes must be one of each path/)
})

test.run()
