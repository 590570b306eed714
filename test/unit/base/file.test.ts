/** Files that are written whole. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { preparedPath, removeFile, removeShallow, writeFileAtomic } from '../../../src/base/file.ts'

function withFile(act: (path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'berth-file-'))
  try {
    act(join(directory, 'file'))
    assert.equal(readdirSync(directory), ['file'])
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('a file that was prepared is taken, and one that was not is made', () => {
  withFile((path) => {
    writeFileSync(preparedPath(path), '', { mode: 0o600 })
    const { ino } = statSync(`${path}.tmp-prepared`)
    writeFileAtomic(path, 'one', { prepared: true })
    assert.is(statSync(path).ino, ino)
    assert.is(statSync(path).mode & 0o777, 0o600)
    writeFileAtomic(path, 'two', { prepared: true })
    assert.is.not(statSync(path).ino, ino)
    assert.is(readFileSync(path, 'utf8'), 'two')
  })
})

test('nothing stays of a write that was killed before', () => {
  withFile((path) => {
    writeFileSync(`${path}.tmp-prepared`, 'longer than what comes')
    writeFileAtomic(path, 'short', { prepared: true })
    assert.is(readFileSync(path, 'utf8'), 'short')
  })
})

test('a directory goes with its files and empty directories; with more in it the rest stays', () => {
  withFile((path) => {
    writeFileSync(path, '')
    const directory = `${path}s`
    mkdirSync(join(directory, 'empty'), { recursive: true })
    writeFileSync(join(directory, 'one'), '')
    symlinkSync(path, join(directory, 'link'))
    assert.ok(removeShallow(directory))
    assert.not(existsSync(directory))
    assert.ok(removeShallow(directory))
    // Not what a link leads to.
    assert.ok(existsSync(path))
    mkdirSync(join(directory, 'full/deep'), { recursive: true })
    assert.not(removeShallow(directory))
    assert.ok(existsSync(join(directory, 'full/deep')))
    rmSync(directory, { recursive: true })
    assert.not(removeShallow(path))
  })
})

test('a file is removed, and of none there is nothing to remove', () => {
  withFile((path) => {
    writeFileSync(path, '')
    symlinkSync('nowhere', `${path}-link`)
    removeFile(`${path}-link`)
    removeFile(`${path}-link`)
    mkdirSync(`${path}-directory`)
    assert.throws(() => removeFile(`${path}-directory`), /EISDIR|EPERM/)
    rmSync(`${path}-directory`, { recursive: true })
  })
})

test.run()
