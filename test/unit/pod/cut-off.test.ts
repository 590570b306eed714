import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isCutOff } from '../../../src/pod/cut-off.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-cut-off-'))

test('cut off is what is empty and older than this boot', () => {
  const file = (name: string, content: string, old: boolean): string => {
    const path = join(directory, name)
    writeFileSync(path, content)
    if (old) utimesSync(path, 1, 1)
    return path
  }
  assert.is(isCutOff(file('empty-old', '', true)), true)
  assert.is(isCutOff(file('empty-new', '', false)), false)
  assert.is(isCutOff(file('full-old', '{', true)), false)
  assert.is(isCutOff(join(directory, 'missing')), false)
})

test.after(() => rmSync(directory, { recursive: true }))

test.run()
