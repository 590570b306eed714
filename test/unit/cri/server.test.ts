import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { subjectOf } from '../../../src/cri/server.ts'

test('a line of the log names the pod of a container that is not made yet', () => {
  const pod = { metadata: { name: 'web', namespace: 'shop' } }
  const config = { metadata: { name: 'c' } }
  assert.is(subjectOf({ podSandboxId: 'aa', config, sandboxConfig: pod }), 'shop/web/c')
  assert.is(subjectOf({ podSandboxId: 'aa', config }), 'c')
  assert.is(subjectOf({ config: pod }), 'shop/web')
  assert.is(subjectOf({ image: { image: 'busybox' }, sandboxConfig: pod }), 'busybox')
  assert.is(subjectOf({ containerId: 'cc', podSandboxId: 'aa' }), 'cc')
  assert.is(subjectOf({}), '')
})

test.run()
