import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../../src/base/fault.ts'
import { hostFacts, planContainer, planProcess } from '../../../src/plan/index.ts'
import { CAPABILITIES, MS, RLIM_INFINITY } from '../../../src/spec/linux.ts'
import type { ContainerPlan } from '../../../src/spec/plan.ts'
import type { Linux, Mount, Process, Spec } from '../../../src/spec/runtime.ts'
import { encodeContainer } from '../../../src/wire/plan.ts'
import { FACTS, namespaces, PLACE, spec } from './facts.ts'

const plan = (change: Partial<Spec>, facts = FACTS): ContainerPlan =>
  planContainer(spec(change), facts, PLACE).plan
const withLinux = (linux: Partial<Linux>, facts = FACTS): ContainerPlan =>
  plan({ linux: { ...spec().linux, ...linux } }, facts)
const withProcess = (process: Partial<Process>, facts = FACTS) =>
  planProcess({ ...(spec().process as Process), ...process }, spec(), facts)
const bit = (name: (typeof CAPABILITIES)[number]): bigint =>
  1n << BigInt(CAPABILITIES.indexOf(name))
const ids = [{ containerID: 0, hostID: 100000, size: 65536 }]

function refuses(name: string, act: () => unknown, code: FaultCode, message: RegExp): void {
  test(`${name} is refused by name`, () => {
    assert.throws(act, (e: unknown) => {
      assert.instance(e, Fault)
      assert.is((e as Fault).code, code)
      assert.match((e as Fault).message, message)
      return true
    })
  })
}

test('a default configuration needs no warning and can be encoded', () => {
  const { plan, warnings } = planContainer(spec(), FACTS, PLACE)
  assert.equal(warnings, [])
  assert.ok(encodeContainer(plan).length > 500)
  assert.is(plan.rootPropagation, MS.PRIVATE | MS.REC)
  assert.is(plan.loopback, true)
  assert.equal(plan.process.umask, 0o022)
})

test('labels of a module that the host has not enabled are left out, told, where the caller wants it so', () => {
  const change = spec({
    process: { ...(spec().process as Process), apparmorProfile: 'x', selinuxLabel: 'y' },
  })
  change.linux = { ...change.linux, mountLabel: 'z' }
  const { plan, warnings } = planContainer(change, FACTS, { ...PLACE, labelsWhereEnabled: true })
  assert.is(plan.process.apparmor, undefined)
  assert.is(plan.process.selinux, undefined)
  assert.equal(
    warnings.map((warning) => warning.split(/[: ]/)[0]),
    ['linux.mountLabel', 'process.apparmorProfile', 'process.selinuxLabel'],
  )
})

test('facts of this machine are enough for a default configuration', () => {
  const facts = hostFacts()
  assert.ok(facts.namespaces.has('mount'))
  assert.ok(facts.hardLimits.size >= 16)
  const mounts = (spec().mounts ?? []).filter((m) => facts.cgroup2 || m.type !== 'cgroup')
  planContainer(spec({ mounts }), facts, PLACE)
})

test("the specification's example is planned but for what is refused by name", () => {
  const path = new URL('../../../../test/unit/plan/data/example.json', import.meta.url)
  const example = JSON.parse(readFileSync(path, 'utf8')) as Spec
  const facts = { ...FACTS, apparmor: true, selinux: true }
  const { plan, warnings } = planContainer(example, facts, {
    ...PLACE,
    seccomp: { program: new Uint8Array(8), flags: 0 },
  })
  assert.equal(warnings, [])
  assert.equal(plan.hostname, 'slartibartfast')
  assert.equal(plan.process.groups, [5, 6])
  assert.equal(
    plan.process.rlimits.map((r) => [r.resource, r.soft]),
    [
      [4, 1024n],
      [7, 1024n],
    ],
  )
  assert.equal(plan.monotonicOffset, { seconds: 172800n, nanoseconds: 0 })
  assert.equal(plan.devices[0], {
    target: '/dev/fuse',
    type: 'c',
    major: 10,
    minor: 229,
    mode: 0o666,
    uid: 0,
    gid: 0,
  })
  assert.equal(plan.idMappings?.uids, [{ inside: 0, outside: 1000, size: 32000 }])
  assert.is(plan.rootPropagation, MS.SLAVE)
  assert.is(plan.rootReadonly, true)
})

test('default devices and links are there, and the configuration wins', () => {
  const { devices, links } = withLinux({
    devices: [{ path: '/dev/null', type: 'c', major: 1, minor: 3, fileMode: 0o600 }],
  })
  assert.equal(devices.map((d) => d.target).sort(), [
    '/dev/full',
    '/dev/null',
    '/dev/random',
    '/dev/tty',
    '/dev/urandom',
    '/dev/zero',
  ])
  assert.is(devices[0]?.mode, 0o600)
  assert.equal(
    links.map((l) => `${l.target} ${l.to}`),
    [
      '/dev/fd /proc/self/fd',
      '/dev/stdin /proc/self/fd/0',
      '/dev/stdout /proc/self/fd/1',
      '/dev/stderr /proc/self/fd/2',
      '/dev/core /proc/kcore',
      '/dev/ptmx pts/ptmx',
    ],
  )
})

test("no node is made where /dev is the host's", () => {
  const mounts = [{ destination: '/dev', type: 'bind', source: '/dev', options: ['rbind'] }]
  const { devices, links } = plan({ mounts })
  assert.equal([devices, links], [[], []])
})

test('capabilities are masks; those that the host lacks are left out with one warning', () => {
  const warnings: string[] = []
  const names = ['CAP_KILL', 'sys_admin', 'Cap_Bpf']
  const process: Process = {
    ...(spec().process as Process),
    capabilities: { bounding: names, permitted: names, effective: names },
  }
  const facts = { ...FACTS, capabilities: FACTS.capabilities & ~bit('CAP_BPF') }
  const { capabilities } = planProcess(process, spec(), facts, { warn: (w) => warnings.push(w) })
  assert.is(capabilities.effective, bit('CAP_KILL') | bit('CAP_SYS_ADMIN'))
  assert.is(capabilities.bounding, capabilities.permitted)
  assert.is(capabilities.inheritable, 0n)
  assert.is(warnings.length, 1)
  assert.match(warnings[0] ?? '', /CAP_BPF/)
})

test('in a user namespace all capabilities can be granted', () => {
  const linux = {
    namespaces: namespaces('mount', 'user', 'pid', 'network'),
    uidMappings: ids,
    gidMappings: ids,
  }
  const process: Process = { ...(spec().process as Process), capabilities: { bounding: ['BPF'] } }
  const { capabilities } = planProcess(process, spec({ linux }), { ...FACTS, capabilities: 0n })
  assert.is(capabilities.bounding, bit('CAP_BPF'))
})

test('without process.capabilities there are none', () => {
  assert.equal(Object.values(withProcess({}).capabilities), [0n, 0n, 0n, 0n, 0n])
})

test('rlimits take 64 bits, rounded doubles and -1 as infinity', () => {
  const rlimit = (value: number | bigint) =>
    withProcess({ rlimits: [{ type: 'RLIMIT_CORE', soft: value, hard: value }] }).rlimits[0]?.hard
  assert.is(rlimit(18446744073709551615n), RLIM_INFINITY)
  assert.is(rlimit(2 ** 64), RLIM_INFINITY)
  assert.is(rlimit(-1), RLIM_INFINITY)
  assert.is(rlimit(1024), 1024n)
})

test('of a variable given twice the last holds', () => {
  assert.equal(withProcess({ env: ['A=1', 'B=2', 'A=3=4'] }).env, ['A=3=4', 'B=2'])
})

test('a joined namespace has its path, and the mappings that are said of it', () => {
  const linux = {
    namespaces: [{ type: 'mount' }, { type: 'user', path: '/proc/7/ns/user' }],
    uidMappings: ids,
    gidMappings: ids,
  }
  const result = plan({ linux, mounts: [] })
  assert.equal(result.namespaces, [{ type: 'mount' }, { type: 'user', path: '/proc/7/ns/user' }])
  assert.equal(result.idMappings?.uids, result.idMappings?.gids)
  assert.ok((result.idMappings?.uids.length ?? 0) > 0)
})

const noRaise = { ...FACTS, capabilities: FACTS.capabilities & ~bit('CAP_SYS_RESOURCE') }
test('limits that need no raising need no CAP_SYS_RESOURCE', () => {
  withProcess(
    { rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1024, hard: 524288 }], oomScoreAdj: 0 },
    noRaise,
  )
})
refuses(
  'a hard limit above ours without CAP_SYS_RESOURCE',
  () => withProcess({ rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1, hard: 524289 }] }, noRaise),
  'FAILED_PRECONDITION',
  /rlimits\[0\].*CAP_SYS_RESOURCE/,
)
refuses(
  'a lower oom score without CAP_SYS_RESOURCE',
  () => withProcess({ oomScoreAdj: -1 }, noRaise),
  'FAILED_PRECONDITION',
  /oomScoreAdj/,
)

const unimplemented: [string, Partial<Spec>][] = [
  ['linux.intelRdt', { linux: { ...spec().linux, intelRdt: {} } }],
  ['linux.netDevices', { linux: { ...spec().linux, netDevices: { eth0: {} } } }],
  ['hooks.poststart', { hooks: { poststart: [{ path: '/x' }] } }],
]
for (const [field, change] of unimplemented) {
  refuses(
    field,
    () => plan(change),
    'UNIMPLEMENTED',
    new RegExp(`^${field.replaceAll('.', '\\.')} is not supported`),
  )
}

const process = (change: Partial<Process>): Partial<Spec> => ({
  process: { ...(spec().process as Process), ...change },
})
const linux = (change: Partial<Linux>): Partial<Spec> => ({ linux: { ...spec().linux, ...change } })
const invalid: [string, Partial<Spec>, RegExp][] = [
  ['version 0.5', { ociVersion: '0.5.0-dev' }, /^ociVersion/],
  ['an empty command', process({ args: [] }), /^process.args/],
  ['a relative cwd', process({ cwd: 'a' }), /^process.cwd/],
  ['a NUL in an argument', process({ args: ['a', 'b\0'] }), /^process.args\[1\]/],
  ['a variable without a name', process({ env: ['=x'] }), /^process.env\[0\]/],
  ['uid -1', process({ user: { uid: -1, gid: 0 } }), /^process.user.uid/],
  ['uid 2^32-1', process({ user: { uid: 2 ** 32 - 1, gid: 0 } }), /^process.user.uid/],
  ['a fractional gid', process({ user: { uid: 0, gid: 0.5 } }), /^process.user.gid/],
  [
    'an unknown capability',
    process({ capabilities: { bounding: ['CAP_X'] } }),
    /bounding: there is no capability "CAP_X"/,
  ],
  ['an unknown limit', process({ rlimits: [{ type: 'RLIMIT_X', soft: 1, hard: 1 }] }), /RLIMIT_X/],
  [
    'a limit given twice',
    process({ rlimits: [1, 2].map((n) => ({ type: 'RLIMIT_CPU', soft: n, hard: n })) }),
    /RLIMIT_CPU is given twice/,
  ],
  [
    'a soft limit above the hard',
    process({ rlimits: [{ type: 'RLIMIT_CPU', soft: 2, hard: 1 }] }),
    /soft/,
  ],
  ['an oom score of 1001', process({ oomScoreAdj: 1001 }), /oomScoreAdj/],
  [
    'a namespace given twice',
    linux({ namespaces: namespaces('mount', 'pid', 'pid') }),
    /^linux.namespaces\[2\]/,
  ],
  ['an unknown namespace', linux({ namespaces: namespaces('mount', 'toString') }), /toString/],
  [
    'a relative namespace path',
    linux({ namespaces: [{ type: 'mount' }, { type: 'pid', path: 'x' }] }),
    /path/,
  ],
  [
    'mappings without a user namespace',
    linux({ uidMappings: ids, gidMappings: ids }),
    /uidMappings/,
  ],
  [
    'a user namespace without mappings',
    { mounts: [], ...linux({ namespaces: namespaces('mount', 'user') }) },
    /uidMappings/,
  ],
  [
    'mappings that overlap',
    {
      mounts: [],
      ...linux({
        namespaces: namespaces('mount', 'user'),
        uidMappings: [...ids, { containerID: 9, hostID: 1, size: 1 }],
        gidMappings: ids,
      }),
    },
    /overlaps/,
  ],
  [
    'an unmapped user',
    {
      mounts: [],
      ...linux({ namespaces: namespaces('mount', 'user'), uidMappings: ids, gidMappings: ids }),
      ...process({ user: { uid: 70000, gid: 0 } }),
    },
    /process.user.uid: 70000/,
  ],
  [
    'time offsets without a time namespace',
    linux({ timeOffsets: { monotonic: { secs: 1 } } }),
    /timeOffsets.monotonic/,
  ],
  [
    'a hostname without a uts namespace',
    { hostname: 'x', mounts: [], linux: { namespaces: namespaces('mount') } },
    /^hostname/,
  ],
  ['a hostname of 65 bytes', { hostname: 'x'.repeat(65) }, /^hostname/],
  ['a relative masked path', linux({ maskedPaths: ['x'] }), /^linux.maskedPaths\[0\]/],
  ['an unknown propagation', linux({ rootfsPropagation: 'x' }), /^linux.rootfsPropagation/],
  [
    'a device of no type',
    linux({ devices: [{ path: '/dev/x', type: 'x' }] }),
    /^linux.devices\[0\].type/,
  ],
  ['a device without numbers', linux({ devices: [{ path: '/dev/x', type: 'c' }] }), /major/],
  [
    'a device given twice',
    linux({ devices: [1, 2].map((minor) => ({ path: '/dev/x', type: 'c', major: 1, minor })) }),
    /twice/,
  ],
]
/** As whoever wrote it left it: the types have these fields. */
const missing: [string, Partial<Spec>][] = [
  ['ociVersion', { ociVersion: undefined as never }],
  ['process.scheduler.policy', process({ scheduler: {} as never })],
  ['process.ioPriority.class', process({ ioPriority: {} as never })],
  ['linux.personality.domain', linux({ personality: {} as never })],
  ['linux.memoryPolicy.mode', linux({ memoryPolicy: { nodes: '0' } as never })],
  ['linux.namespaces[0].type', linux({ namespaces: [{} as never] })],
  ['linux.devices[0].type', linux({ devices: [{ path: '/dev/x' } as never] })],
  ['process.rlimits[0].type', process({ rlimits: [{ soft: 1, hard: 1 } as never] })],
  ['process.rlimits[0].soft', process({ rlimits: [{ type: 'RLIMIT_CPU' } as never] })],
]
for (const [field, change] of missing) {
  const message = new RegExp(`^${field.replaceAll(/[.[\]]/g, '\\$&')}: is missing$`)
  invalid.push([`no ${field}`, change, message])
}
for (const [name, change, message] of invalid) {
  refuses(name, () => plan(change), 'INVALID_ARGUMENT', message)
}

refuses(
  'AppArmor where there is none',
  () => plan(process({ apparmorProfile: 'x' })),
  'FAILED_PRECONDITION',
  /^process.apparmorProfile/,
)
refuses(
  'SELinux where there is none',
  () => plan(process({ selinuxLabel: 'x' })),
  'FAILED_PRECONDITION',
  /^process.selinuxLabel/,
)
refuses(
  'a namespace that the kernel lacks',
  () =>
    withLinux(
      { namespaces: namespaces('mount', 'time') },
      { ...FACTS, namespaces: new Set(['mount']) },
    ),
  'FAILED_PRECONDITION',
  /no time namespaces/,
)
refuses(
  'a container in the mount namespace of the host',
  () => plan({ mounts: [], linux: { namespaces: [] } }),
  'UNIMPLEMENTED',
  /mount namespace/,
)

const withPlace = (namespaces: { type: string }[], mounts: Mount[] = []) =>
  planContainer(spec({ mounts, linux: { namespaces } }), FACTS, { ...PLACE, rootPlace: '/place' })
    .plan
test('without a mount namespace the root goes where the caller has a place for it', () => {
  assert.is(withPlace(namespaces('pid')).rootPlace, '/place')
  assert.is(withPlace(namespaces('pid', 'mount')).rootPlace, undefined)
})
refuses(
  'a user namespace without a mount namespace',
  () => withPlace(namespaces('user')),
  'UNIMPLEMENTED',
  /^linux\.namespaces: a user namespace without/,
)
refuses(
  'layers without a mount namespace',
  () => withPlace([], [{ destination: '/l', type: 'overlay', options: ['lowerdir+=/a'] }]),
  'UNIMPLEMENTED',
  /^mounts\[0\]: layers/,
)

test('a filter that was asked for and not compiled is never left out', () => {
  assert.throws(() => withLinux({ seccomp: { defaultAction: 'SCMP_ACT_ALLOW' } }), /not compiled/)
})

test.run()
