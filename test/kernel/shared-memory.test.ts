import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { withBerth } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

test('--ipc container: shares /dev/shm both ways, and --ipc private does not', async () => {
  await withBerth(async (berth) => {
    const run = ['run', '--rm', '--net', 'none']
    await berth.ok([
      'run',
      '-d',
      '--net',
      'none',
      '--name',
      'owner',
      'hello',
      '/bin/probe',
      'sleep',
      '600',
    ])
    await berth.ok(['exec', 'owner', '/bin/probe', 'write-file', '/dev/shm/x', 'from the owner'])
    const joined = [...run, '--ipc', 'container:owner', 'hello', '/bin/probe']
    assert.is(await berth.ok([...joined, 'cat', '/dev/shm/x']), 'from the owner')
    await berth.ok([...joined, 'write-file', '/dev/shm/y', 'from the guest'])
    assert.is(
      await berth.ok(['exec', 'owner', '/bin/probe', 'cat', '/dev/shm/y']),
      'from the guest',
    )
    await berth.refused([...run, 'hello', '/bin/probe', 'cat', '/dev/shm/x'], /ENOENT/)
  })
})

test.run()
