import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

/** Directories at the top and directly below. */
function entrances(root: string): string[] {
  return [root, ...readdirSync(root).map((name) => join(root, name))].filter((path) =>
    statSync(path).isDirectory(),
  )
}

test('no user of the host reaches the setuid programs of an image, whatever umask berth is called with (CVE-2021-41103, CVE-2024-25621)', async () => {
  const before = process.umask(0)
  try {
    await berth.ok(['run', '--rm', '--net', 'none', 'hello', 'true'])
  } finally {
    process.umask(before)
  }
  for (const path of [...entrances(berth.root), ...entrances(berth.state)]) {
    const { mode, uid } = statSync(path)
    assert.is(mode & 0o777, 0o700, path)
    assert.is(uid, 0, path)
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
