import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  containerNamespaces,
  type HeldPaths,
  podNamespaces,
  takesHeldAhead,
} from '../../../src/pod/namespaces.ts'
import type { NamespaceOption, PodSandboxConfig } from '../../../src/spec/cri.ts'
import { MAPPINGS, options, podConfig, refused, security, userns } from './config.ts'

const HOST = { id: 'ab'.repeat(32), hostname: 'node-1' }
const pod = (change?: Partial<NamespaceOption>, rest?: Parameters<typeof podConfig>[1]) =>
  podNamespaces(podConfig(change ? { namespaceOptions: options(change) } : {}, rest), HOST)
const types = (change?: Partial<NamespaceOption>) =>
  pod(change, { hostname: '' }).plan.namespaces.map(({ type }) => type)

const HOLDS: [claim: string, change: Partial<NamespaceOption> | undefined, expect: string[]][] = [
  ['nothing said: all is the pod’s', undefined, ['network', 'uts', 'ipc', 'pid']],
  ['a pod of the kubelet’s', {}, ['network', 'uts', 'ipc']],
  ['a shared process namespace', { pid: 'POD' }, ['network', 'uts', 'ipc', 'pid']],
  ['the host’s network and name', { network: 'NODE' }, ['ipc']],
  ['the host’s ipc', { ipc: 'NODE' }, ['network', 'uts']],
  ['the host’s processes', { pid: 'NODE' }, ['network', 'uts', 'ipc']],
  ['everything of the host', { network: 'NODE', ipc: 'NODE', pid: 'NODE' }, []],
  ['a user namespace', { usernsOptions: userns() }, ['user', 'network', 'uts', 'ipc']],
  [
    'a user namespace and the host’s network',
    { usernsOptions: userns(), network: 'NODE' },
    ['user', 'ipc'],
  ],
]
for (const [claim, change, expect] of HOLDS) {
  test(`a pod holds: ${claim}`, () => assert.equal(types(change), expect))
}

test('mappings are in the plan and in the record', () => {
  const { plan, mappings } = pod({ usernsOptions: userns() })
  assert.equal(mappings, MAPPINGS)
  const map = { inside: 0, outside: 65536, size: 65536 }
  assert.equal(plan.idMappings, { uids: [map], gids: [map] })
})

const range = (containerId: number, hostId: number, length: number) => ({
  containerId,
  hostId,
  length,
})
const BAD_USERS: [claim: string, change: Parameters<typeof userns>[0], message: RegExp][] = [
  ['no uid mapping', { uids: [] }, /userns_options\.uids: has 0 mappings/],
  ['two gid mappings', { gids: [range(0, 1, 1), range(1, 5, 1)] }, /userns_options\.gids: has 2/],
  ['container id 0 not mapped', { uids: [range(1, 65536, 65536)] }, /\.uids: container id 0/],
  [
    'lengths that differ',
    { uids: [range(0, 65536, 10)] },
    /userns_options: 10 uids and 65536 gids/,
  ],
  ['a mapping of no ids', { uids: [range(0, 1, 0)], gids: [range(0, 1, 0)] }, /size/],
  ['a mapping beyond the ids', { uids: [range(0, 2 ** 32 - 2, 65536)] }, /hostID/],
  ['the mode CONTAINER', { mode: 'CONTAINER' }, /userns_options\.mode: "CONTAINER"/],
  ['the mode TARGET', { mode: 'TARGET' }, /userns_options\.mode: "TARGET"/],
  ['mappings of the host’s user namespace', { mode: 'NODE' }, /goes with no mappings/],
]
for (const [claim, change, message] of BAD_USERS) {
  test(`refused: ${claim}`, () =>
    refused(() => pod({ usernsOptions: userns(change) }), 'INVALID_ARGUMENT', message))
}

test('a pod has no network or ipc of a container, and no target', () => {
  refused(() => pod({ network: 'CONTAINER' }), 'INVALID_ARGUMENT', /namespace_options\.network/)
  refused(() => pod({ ipc: 'TARGET' }), 'INVALID_ARGUMENT', /namespace_options\.ipc/)
  refused(() => pod({ pid: 'TARGET' }), 'INVALID_ARGUMENT', /namespace_options\.pid/)
})

test('the host’s processes do not go with a user namespace', () =>
  refused(
    () => pod({ pid: 'NODE', usernsOptions: userns() }),
    'FAILED_PRECONDITION',
    /namespace_options\.pid/,
  ))

test('the name is the client’s, else made of the id; the host’s where uts is', () => {
  assert.equal([pod().hostname, pod().plan.hostname], ['web-0', 'web-0'])
  assert.is(pod({}, { hostname: '' }).plan.hostname, 'abababababab')
  const ofHost = pod({ network: 'NODE' }, { hostname: '' })
  assert.equal([ofHost.hostname, ofHost.plan.hostname], ['node-1', undefined])
  assert.is(pod({ network: 'NODE' }, { hostname: 'node-1' }).hostname, 'node-1')
})

test('a name that cannot be set is refused', () => {
  refused(() => pod({ network: 'NODE' }), 'INVALID_ARGUMENT', /^hostname: "web-0"/)
  for (const hostname of ['a\nb', 'a b', 'x'.repeat(65), 'a\0']) {
    refused(() => pod({}, { hostname }), 'INVALID_ARGUMENT', /^hostname: /)
  }
})

const DEFAULTS = [
  ['net/ipv4/ip_unprivileged_port_start', '0'],
  ['net/ipv4/ping_group_range', '0 2147483647'],
]
test('a network of its own has open low ports and ping', () => {
  assert.equal(pod({}).plan.sysctls, DEFAULTS)
  assert.equal(pod({ network: 'NODE' }, { hostname: '' }).plan.sysctls, [])
  assert.is(pod({}).plan.loopback, true)
  assert.is(pod({ network: 'NODE' }, { hostname: '' }).plan.loopback, false)
})

test('in a user namespace ping is for the groups there are', () =>
  assert.equal(pod({ usernsOptions: userns() }).plan.sysctls[1]?.[1], '0 65535'))

test('sysctls of the client win, however they are written', () => {
  const sysctls = { 'net/ipv4/ip_unprivileged_port_start': '80', 'kernel.shmmax': '1' }
  assert.equal(pod({}, { sysctls }).plan.sysctls, [
    ['net/ipv4/ip_unprivileged_port_start', '80'],
    ['kernel/shmmax', '1'],
    DEFAULTS[1],
  ])
})

const BAD_SYSCTLS: [
  claim: string,
  change: Partial<NamespaceOption>,
  sysctls: Record<string, string>,
][] = [
  ['of the whole host', {}, { 'kernel.core_pattern': '|/x' }],
  ['of the host’s network (CVE-2022-0532)', { network: 'NODE' }, { 'net.ipv4.ip_forward': '1' }],
  ['of the host’s ipc', { ipc: 'NODE' }, { 'kernel.shmmax': '1' }],
  ['with a line end (CVE-2022-0811)', {}, { 'kernel.shmmax': '1\nkernel.core_pattern=|/x' }],
  ['out of /proc/sys', {}, { 'net/../kernel/core_pattern': '1' }],
  ['of a user namespace that is the host’s', {}, { 'user.max_user_namespaces': '1' }],
]
for (const [claim, change, sysctls] of BAD_SYSCTLS) {
  test(`refused: a sysctl ${claim}`, () =>
    refused(() => pod(change, { sysctls, hostname: '' }), 'INVALID_ARGUMENT', /^linux\.sysctls "/))
}

const HELD: HeldPaths = { network: '/n', ipc: '/i', uts: '/u', pid: '/p' }
function container(
  change: Partial<NamespaceOption> | null,
  {
    pod = podConfig({ namespaceOptions: options({ pid: 'POD' }) }),
    held = HELD,
    target,
    privileged = false,
  }: {
    pod?: PodSandboxConfig
    held?: HeldPaths
    target?: number
    privileged?: boolean
  } = {},
) {
  const context = security({
    namespaceOptions: change === null ? null : options(change),
    privileged,
  })
  const result = containerNamespaces(context, { pod, held, target })
  const { namespaces, ...rest } = result
  const list = namespaces.map(({ type, path = 'new' }) => `${type}=${path}`)
  return { ...rest, list: list.filter((entry) => !/^(mount|cgroup)=new$/.test(entry)), all: list }
}

test('a container joins what the pod holds', () => {
  const { list, sharedMemory, network } = container({ pid: 'POD' })
  assert.equal(list, ['network=/n', 'ipc=/i', 'pid=/p', 'uts=/u'])
  assert.equal([sharedMemory, network], ['pod', 'pod'])
})

test('without a word of its own it is as the pod', () => {
  assert.equal(container(null).list, ['network=/n', 'ipc=/i', 'pid=/p', 'uts=/u'])
  const pod = podConfig({ namespaceOptions: options() })
  assert.equal(container(null, { pod }).list, ['network=/n', 'ipc=/i', 'pid=new', 'uts=/u'])
})

test('CONTAINER is one of its own', () => {
  const { list, sharedMemory } = container({ pid: 'CONTAINER', ipc: 'CONTAINER' })
  assert.equal(list, ['network=/n', 'ipc=new', 'pid=new', 'uts=/u'])
  assert.is(sharedMemory, 'own')
})

test('NODE is the host’s, and its name is with the network', () => {
  const { list, sharedMemory, network } = container({ network: 'NODE', ipc: 'NODE', pid: 'NODE' })
  assert.equal(list, [])
  assert.equal([sharedMemory, network], ['node', 'node'])
})

test('POD in a pod of the host’s network is the host’s', () => {
  const pod = podConfig({ namespaceOptions: options({ network: 'NODE' }) }, { hostname: '' })
  const { list, network } = container({}, { pod, held: { ipc: '/i' } })
  assert.equal(list, ['ipc=/i', 'pid=new'])
  assert.is(network, 'node')
})

test('TARGET joins the processes of another container', () => {
  const { list } = container({ pid: 'TARGET', targetId: 'c1' }, { target: 42 })
  assert.equal(list, ['network=/n', 'ipc=/i', 'pid=/proc/42/ns/pid', 'uts=/u'])
})

test('a target that does not run, or has no name, is refused', () => {
  const field = /namespace_options\.target_id/
  refused(() => container({ pid: 'TARGET', targetId: 'c1' }), 'FAILED_PRECONDITION', field)
  refused(
    () => container({ pid: 'TARGET', targetId: 'c1' }, { target: 0 }),
    'FAILED_PRECONDITION',
    field,
  )
  refused(() => container({ pid: 'TARGET' }, { target: 42 }), 'INVALID_ARGUMENT', field)
})

test('what the pod should hold and does not is never the host’s instead', () => {
  for (const held of [{}, { network: '/n' }, { network: '/n', ipc: '/i' }]) {
    refused(
      () => container({ pid: 'POD' }, { held }),
      'FAILED_PRECONDITION',
      /POD needs a \w+ namespace/,
    )
  }
  const pod = podConfig({ namespaceOptions: options({ usernsOptions: userns() }) })
  refused(
    () => container({ usernsOptions: userns() }, { pod }),
    'FAILED_PRECONDITION',
    /userns_options: the pod's user namespace is not there/,
  )
})

test('a container without a pod’s uts gets one of its own', () =>
  assert.ok(container({}, { held: { network: '/n', ipc: '/i' } }).list.includes('uts=new')))

test('a user namespace is the pod’s, with the same ids', () => {
  const pod = podConfig({ namespaceOptions: options({ usernsOptions: userns() }) })
  const held = { ...HELD, user: '/user' }
  assert.is(container({ usernsOptions: userns() }, { pod, held }).list[0], 'user=/user')
  assert.is(container(null, { pod, held }).list[0], 'user=/user')
  const other = userns({ uids: [{ hostId: 1, containerId: 0, length: 65536 }] })
  for (const usernsOptions of [other, null, userns({ mode: 'NODE', uids: [], gids: [] })]) {
    refused(
      () => container({ usernsOptions }, { pod, held }),
      'INVALID_ARGUMENT',
      /userns_options: differs/,
    )
  }
  refused(
    () => container({ usernsOptions: userns(), pid: 'NODE' }, { pod, held }),
    'FAILED_PRECONDITION',
    /namespace_options\.pid/,
  )
})

test('a privileged container sees the machine’s cgroups', () => {
  assert.ok(container({}).all.includes('cgroup=new'))
  assert.not(container({}, { privileged: true }).all.includes('cgroup=new'))
})

test('what a pod can have of a monitor that holds something already', () => {
  const takes = (change: Partial<NamespaceOption>, sysctls: Record<string, string> = {}) =>
    takesHeldAhead(podConfig({ namespaceOptions: options(change) }, { sysctls }))
  assert.ok(takes({}))
  assert.ok(takes({ usernsOptions: null }, { 'net.ipv4.tcp_syncookies': '1' }))
  for (const change of [{ ipc: 'NODE' }, { pid: 'POD' }, { usernsOptions: userns() }] as const)
    assert.not(takes(change), JSON.stringify(change))
  assert.not(takes({}, { 'kernel.shmmax': '1' }))
})

test.run()
