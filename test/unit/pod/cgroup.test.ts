import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { containersParent, describePod, podPlace } from '../../../src/pod/cgroup.ts'
import { podConfig, refused } from './config.ts'

const ID = '0123456789abcdef'.repeat(4)
const SCOPE = 'berth-pod-0123456789abcdef0123456789abcdef.scope'
const SLICE = '/kubepods.slice/kubepods-pod1.slice'

test('with systemd a pod has a scope in its slice, which stays systemd’s', () => {
  const place = podPlace('systemd', SLICE, ID)
  assert.equal(place, { cgroupParent: SLICE, scope: SCOPE, ownsParent: false })
  assert.is(containersParent(place), `${SLICE}/${SCOPE}`)
  assert.equal(podPlace('systemd', 'kubepods-pod1.slice', ID), place)
  assert.is(podPlace('systemd', '', ID).cgroupParent, '/berth.slice')
})

test('with cgroupfs containers are in the parent itself', () => {
  const place = podPlace('cgroupfs', '', ID)
  assert.equal(place, { cgroupParent: '/berth', ownsParent: false })
  assert.is(containersParent(place), '/berth')
})

test('a parent of the other driver is refused by name', () => {
  refused(
    () => podPlace('cgroupfs', SLICE, ID),
    'INVALID_ARGUMENT',
    /cgroup_parent.*is a slice of systemd, and.*"cgroupfs"/,
  )
  refused(
    () => podPlace('systemd', '/kubepods/pod1', ID),
    'INVALID_ARGUMENT',
    /is no slice, and.*"systemd"/,
  )
  refused(() => podPlace('systemd', '/pod1.slice/', ID), 'INVALID_ARGUMENT', /is no slice/)
  refused(
    () => podPlace('systemd', '/x/pod1.slice', ID),
    'INVALID_ARGUMENT',
    /is not where systemd has pod1.slice/,
  )
})

test('a pod is described by names of Kubernetes, else by its id', () => {
  const described = (namespace: string, name: string): string =>
    describePod({
      id: ID,
      config: podConfig({}, { metadata: { name, namespace, uid: 'u', attempt: 0 } }),
    })
  assert.is(described('kube-system', 'dns.1-x'), 'pod kube-system/dns.1-x')
  for (const hostile of ['', 'a\nExecStart=/x', 'a b', '%n', '$x', 'A', 'a/b', 'a'.repeat(254)])
    assert.is(described('default', hostile), `pod ${ID}`)
})

test.run()
