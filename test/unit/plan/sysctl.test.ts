import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { planContainer } from '../../../src/plan/index.ts'
import type { NamespaceType } from '../../../src/spec/plan.ts'
import { FACTS, namespaces, PLACE, spec } from './facts.ts'

function plan(
  sysctl: Record<string, string>,
  types: string[] = ['mount', 'network', 'ipc', 'uts'],
  hostNamespaces: NamespaceType[] = [],
): readonly (readonly [string, string])[] {
  const linux = { namespaces: namespaces(...types), sysctl }
  const place = { ...PLACE, hostNamespaces: new Set(hostNamespaces) }
  return planContainer(spec({ linux, mounts: [] }), FACTS, place).plan.sysctls
}

const good: [string, string][] = [
  ['net.ipv4.ip_forward', 'net/ipv4/ip_forward'],
  ['net/ipv4/ip_forward', 'net/ipv4/ip_forward'],
  ['net.ipv4.conf.eth0/1.forwarding', 'net/ipv4/conf/eth0.1/forwarding'],
  ['net/ipv4/conf/eth0.1/forwarding', 'net/ipv4/conf/eth0.1/forwarding'],
  ['kernel.shm_rmid_forced', 'kernel/shm_rmid_forced'],
  ['kernel.sem', 'kernel/sem'],
  ['fs.mqueue.msg_max', 'fs/mqueue/msg_max'],
  ['kernel.domainname', 'kernel/domainname'],
]
for (const [name, path] of good) {
  test(`${name} is written to ${path}`, () =>
    assert.equal(plan({ [name]: '1 2\t3' }), [[path, '1 2\t3']]))
}

const bad: [string, Record<string, string>, string[]?][] = [
  ['a sysctl of the whole host', { 'kernel.core_pattern': '|/x' }],
  ['vm.*', { 'vm.overcommit_memory': '1' }],
  ['a path that climbs', { 'net/../kernel/core_pattern': 'x' }],
  ['a path that climbs with dots', { 'net.//.kernel.core_pattern': 'x' }],
  ['an empty part', { 'net..x': '1' }],
  ['a name with a second assignment', { 'kernel.shm_rmid_forced=1+kernel.core_pattern': 'x' }],
  ['a name with a line end', { 'net.ipv4.x\ny': '1' }],
  ['a value with a line end', { 'kernel.shm_rmid_forced': '1\nx' }],
  ['a value with a NUL', { 'kernel.shm_rmid_forced': '1\0' }],
  ['net without a network namespace', { 'net.core.somaxconn': '1' }, ['mount']],
  ['shm without an ipc namespace', { 'kernel.shmmax': '1' }, ['mount']],
  ['hostname without a uts namespace', { 'kernel.hostname': 'x' }, ['mount']],
  ['user.* without a user namespace', { 'user.max_net_namespaces': '1' }],
  ['the same twice', { 'net.core.somaxconn': '1', 'net/core/somaxconn': '2' }],
]
for (const [name, sysctl, types] of bad) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => plan(sysctl, types),
      (e: unknown) => e instanceof Fault && /^linux.sysctl/.test(e.message),
    )
  })
}

test("net.* with the host's namespace joined by path is refused", () => {
  assert.throws(
    () => plan({ 'net.core.somaxconn': '1' }, ['mount', 'network'], ['network']),
    /network namespace/,
  )
})

test.run()
