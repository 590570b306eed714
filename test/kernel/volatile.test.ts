import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { withBerth } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

test('a --rm container whose command was killed starts again, with what it had written', async () => {
  await withBerth(async (berth) => {
    const words = ['run', '--rm', '--net', 'none', '--name', 'v', 'hello', '/bin/probe']
    const command = berth.spawn([...words, 'sleep', '600'])
    await eventually(
      'it runs',
      async () => (await berth.run(['exec', 'v', '/bin/probe', 'true'])).code === 0,
      { withinMs: 20_000, everyMs: 50 },
    )
    await berth.ok(['exec', 'v', '/bin/probe', 'write-file', '/kept', 'still here'])
    command.kill('SIGKILL')
    await berth.ok(['stop', '-t', '0', 'v'])
    const { Id } = JSON.parse(await berth.ok(['inspect', 'v']))[0] as { Id: string }
    const mark = join(berth.root, 'containers', Id, 'work', 'work', 'incompat', 'volatile')
    assert.ok(existsSync(mark), 'overlayfs has marked the work directory')
    await berth.ok(['start', 'v'])
    assert.is(await berth.ok(['exec', 'v', '/bin/probe', 'cat', '/kept']), 'still here')
  })
})

test.run()
