import { existsSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../../src/base/fault.ts'
import { isLocked, lockFile, tryLockFile } from '../../../src/kernel/lock.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-lock-'))
test.after(() => rmSync(directory, { recursive: true }))

test('an exclusive lock excludes all, a shared one the exclusive', async () => {
  const path = join(directory, 'a')
  {
    using _ = await lockFile(path, { exclusive: true })
    assert.is(tryLockFile(path, { exclusive: true }), undefined)
    assert.is(tryLockFile(path, { exclusive: false }), undefined)
  }
  using first = await lockFile(path, { exclusive: false })
  using second = tryLockFile(path, { exclusive: false })
  assert.ok(first && second)
  assert.is(tryLockFile(path, { exclusive: true }), undefined)
})

test('nobody has locked what is not there, also where a file is in place of its directory', async () => {
  const path = join(directory, 'c')
  assert.not(isLocked(path))
  writeFileSync(path, '')
  assert.not(isLocked(join(path, 'alive')))
  using _ = await lockFile(path, { exclusive: true })
  assert.ok(isLocked(path))
})

test('who waited for a file that its holder removes gets the lock of the new file', async () => {
  const path = join(directory, 'b')
  let holders = 0
  let most = 0
  const worker = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      using _ = await lockFile(path, { exclusive: true })
      most = Math.max(most, ++holders)
      await new Promise(setImmediate)
      holders--
      unlinkSync(path)
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
  assert.is(most, 1)
  assert.is(existsSync(path), false)
})

test('a lock file that is a link is refused', async () => {
  symlinkSync('elsewhere', join(directory, 'link'))
  assert.throws(
    () => tryLockFile(join(directory, 'link'), { exclusive: true }),
    (error: unknown) => isErrno(error, 'ELOOP'),
  )
})

test('an abort ends the waiting at once, and the lock is free when its holder goes', async () => {
  const path = join(directory, 'd')
  const holder = await lockFile(path, { exclusive: true })
  const reason = new Error('enough')
  const abort = new AbortController()
  const waiting = lockFile(path, { exclusive: true, signal: abort.signal })
  abort.abort(reason)
  const gone = await waiting.then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.is(gone, reason)
  await lockFile(path, { exclusive: true, signal: AbortSignal.abort(reason) }).then(
    () => assert.unreachable(),
    (error: unknown) => assert.is(error, reason),
  )
  holder.release()
  using _ = await lockFile(path, { exclusive: true })
})

test('a released lock may be released again', async () => {
  const lock = await lockFile(join(directory, 'c'), { exclusive: true })
  lock.release()
  lock.release()
  assert.ok(tryLockFile(join(directory, 'c'), { exclusive: true }))
})

test.run()
