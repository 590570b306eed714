import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ownCaller } from '../../../src/kernel/caller.ts'
import { runHooks } from '../../../src/oci/hooks.ts'

test('what a hook says last is told, also where its end comes in a turn whose pipes have been looked at before', async () => {
  const caller = ownCaller()
  const script = (text: string) => ({ file: '/bin/sh', args: ['sh', '-c', text], env: [], fds: [] })
  // The end of this one holds the turn in which the end of the hook comes, after the kernel was asked what can be read.
  const other = caller.spawn(script('exit')).status.then(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600)
  })
  const text = 'sleep 0.2; echo went wrong; exit 3'
  const hook = { path: '/bin/sh', args: ['sh', '-c', text], env: ['PATH=/bin'], timeoutMs: 0 }
  const row = runHooks(caller, 'prestart', [hook], { state: {}, bundle: '/' })
  const said = await row.then(
    () => 'nothing',
    (reason: unknown) => String(reason),
  )
  assert.match(said, /prestart hook \/bin\/sh ended with 3: went wrong/)
  await other
})

test.run()
