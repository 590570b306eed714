/** One ROOT with two STATEs: what runs under the one would be lost in the eyes of the other, which would end it. */
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { withBerth } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

test('another STATE is refused as long as something runs in that of the ROOT, and nothing happens to it', async () => {
  await withBerth(async (berth) => {
    const other = join(berth.directory, 'other')
    await berth.ok(['run', '-d', '--net', 'none', '--name', 'a', 'hello', 'sleep', '1000'])
    const refusal = new RegExp(`${berth.root} is in use with --state ${berth.state}: `)
    await berth.refused(['--state', other, 'ps'], refusal)
    await berth.refused(['--state', other, 'rm', '-f', 'a'], refusal)
    await berth.refused(['--state', other, 'run', '--net', 'none', 'hello', 'true'], refusal)
    assert.is(await berth.ok(['exec', 'a', 'probe', 'echo', 'x']), 'x')
    await berth.ok(['stop', '-t', '0', 'a'])
    // Nothing lives: it may move, and there it has its rights.
    await berth.ok(['--state', other, 'start', 'a'])
    await berth.refused(['ps'], new RegExp(`with --state ${other}: `))
    await berth.ok(['--state', other, 'rm', '-f', 'a'])
    await berth.ok(['ps'])
  })
})

test('the same STATE by another name is the same', async () => {
  await withBerth(async (berth) => {
    const link = join(berth.directory, 'link')
    mkdirSync(berth.state, { mode: 0o700 })
    symlinkSync(berth.state, link)
    await berth.ok(['run', '-d', '--net', 'none', '--name', 'a', 'hello', 'sleep', '1000'])
    assert.is(await berth.ok(['--state', link, 'exec', 'a', 'probe', 'echo', 'x']), 'x')
    await berth.ok(['rm', '-f', 'a'])
  })
})

test.run()
