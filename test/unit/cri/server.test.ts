import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { subjectOf } from '../../../src/cri/server.ts'
import { Container, Pod } from '../../../src/pod/model.ts'
import type { ContainerRecord, ContainerStatus, PodRecord } from '../../../src/pod/types.ts'

const POD = { metadata: { name: 'web', namespace: 'shop' } }
const CONFIG = { metadata: { name: 'c' } }
const pod = new Pod({ id: 'aa', config: POD } as PodRecord)
const container = new Container(
  pod,
  { id: 'cc', config: CONFIG } as ContainerRecord,
  {} as ContainerStatus,
)
const known = { pods: new Map([['aa', pod]]), containers: new Map([['cc', container]]) }

test('a line of the log names pod and container, by the request before they are made, then with their id', () => {
  const of = (request: unknown) => subjectOf(request, known)
  assert.is(of({ podSandboxId: 'aa', config: CONFIG, sandboxConfig: POD }), 'shop/web/c')
  assert.is(of({ podSandboxId: 'aa', config: CONFIG }), 'c')
  assert.is(of({ config: POD }), 'shop/web')
  assert.is(of({ image: { image: 'busybox' }, sandboxConfig: POD }), 'busybox')
  assert.is(of({ containerId: 'cc' }), 'shop/web/c@cc')
  assert.is(of({ podSandboxId: 'aa' }), 'shop/web@aa')
  assert.is(of({ containerId: 'gone' }), 'gone')
  assert.is(of({ podSandboxId: 'gone' }), 'gone')
  assert.is(of({}), '')
})

test.run()
