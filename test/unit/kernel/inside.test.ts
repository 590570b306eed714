import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, isErrno } from '../../../src/base/fault.ts'
import { binding } from '../../../src/kernel/binding.ts'
import { AT_EMPTY_PATH, O_PATH } from '../../../src/kernel/constants.ts'
import { Fd } from '../../../src/kernel/fd.ts'
import { openInside, readFileInside } from '../../../src/kernel/inside.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-inside-'))
mkdirSync(join(directory, 'root/etc'), { recursive: true })
writeFileSync(join(directory, 'root/etc/passwd'), 'inside')
writeFileSync(join(directory, 'passwd'), 'outside')
const root = new Fd(openSync(join(directory, 'root'), 'r'))

test.after(() => {
  root.close()
  rmSync(directory, { recursive: true })
})

const isFault = (code: string) => (error: unknown) => error instanceof Fault && error.code === code

for (const [name, target] of [
  ['absolute', '/etc/passwd'],
  ['dotted', '../../../../../../etc/passwd'],
  ['plain', 'etc/passwd'],
] as const) {
  test(`an ${name} link stays below the root`, () => {
    symlinkSync(target, join(directory, 'root', name))
    assert.is(readFileInside(root.number, name, 100)?.toString(), 'inside')
  })
}

test('a path of dots and an absolute one stay below the root', () => {
  for (const path of ['/etc/passwd', '../../etc/passwd', 'etc/../../etc/passwd']) {
    assert.is(readFileInside(root.number, path, 100)?.toString(), 'inside')
  }
  assert.is(readFileInside(root.number, '../passwd', 100), undefined)
})

test('a magic link of /proc is not followed', () => {
  using slash = new Fd(openSync('/', 'r'))
  assert.throws(
    () => openInside(slash.number, `/proc/self/fd/${root.number}/etc/passwd`, O_PATH),
    (error: unknown) => isErrno(error, 'ELOOP'),
  )
})

test('a missing file and a file as a directory are none', () => {
  assert.is(readFileInside(root.number, 'etc/group', 100), undefined)
  assert.is(readFileInside(root.number, 'etc/passwd/x', 100), undefined)
})

test('a file as large as allowed is read, one byte more is refused', () => {
  assert.is(readFileInside(root.number, 'etc/passwd', 6)?.toString(), 'inside')
  assert.throws(() => readFileInside(root.number, 'etc/passwd', 5), isFault('RESOURCE_EXHAUSTED'))
  writeFileSync(join(directory, 'root/huge'), '')
  truncateSync(join(directory, 'root/huge'), 2 ** 40)
  assert.throws(() => readFileInside(root.number, 'huge', 1 << 20), isFault('RESOURCE_EXHAUSTED'))
})

test('a file that lies about its size is read to its end, or refused', () => {
  using proc = new Fd(openSync('/proc', 'r'))
  assert.ok((readFileInside(proc.number, 'version', 4096)?.length ?? 0) > 10)
  assert.throws(() => readFileInside(proc.number, 'version', 10), isFault('RESOURCE_EXHAUSTED'))
})

test('a directory, a fifo, a socket and a device are refused without waiting', async () => {
  execFileSync('mkfifo', [join(directory, 'root/fifo')])
  const server = createServer().listen(join(directory, 'root/socket'))
  await new Promise((resolve) => server.once('listening', resolve))
  for (const name of ['etc', 'fifo', 'socket']) {
    assert.throws(() => readFileInside(root.number, name, 100), isFault('FAILED_PRECONDITION'))
  }
  server.close()
  using dev = new Fd(openSync('/dev', 'r'))
  assert.throws(() => readFileInside(dev.number, 'zero', 100), isFault('FAILED_PRECONDITION'))
})

test('an fd is refused after its end', () => {
  const fd = openInside(root.number, 'etc', O_PATH)
  assert.ok(binding.statx(fd.number, '', AT_EMPTY_PATH).ino > 0n)
  fd.close()
  fd.close()
  assert.throws(() => fd.number, TypeError)
  const given = openInside(root.number, 'etc', O_PATH)
  const number = given.release()
  given.close()
  assert.throws(() => given.release(), TypeError)
  new Fd(number).close()
  assert.throws(() => new Fd(-1), TypeError)
})

test.run()
