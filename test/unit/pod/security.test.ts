import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { onceEach } from '../../../src/pod/check.ts'
import {
  apparmorOf,
  capabilitySets,
  checkPrivileged,
  checkSelinux,
  seccompOf,
} from '../../../src/pod/security.ts'
import type { Capability, SecurityProfile } from '../../../src/spec/cri.ts'
import { DEFAULT_CAPABILITIES } from '../../../src/spec/defaults.ts'
import { never, podConfig, refused, security } from './config.ts'

const sets = (change: Partial<Capability>, privileged = false) =>
  capabilitySets(
    security({
      privileged,
      capabilities: {
        addCapabilities: [],
        dropCapabilities: [],
        addAmbientCapabilities: [],
        ...change,
      },
    }),
    DEFAULT_CAPABILITIES,
  )

test('the default capabilities, none of them inheritable or ambient (CVE-2022-24769)', () => {
  const names = [...DEFAULT_CAPABILITIES]
  const expect = { bounding: names, effective: names, permitted: names }
  assert.equal(capabilitySets(null, DEFAULT_CAPABILITIES), expect)
  assert.equal(sets({}), expect)
})

const NAMES: [claim: string, change: Partial<Capability>, count: number, has: string[]][] = [
  [
    'one more, with and without CAP_',
    { addCapabilities: ['SYS_ADMIN', 'cap_net_admin'] },
    16,
    ['CAP_SYS_ADMIN', 'CAP_NET_ADMIN'],
  ],
  [
    'a drop wins',
    { addCapabilities: ['SYS_ADMIN'], dropCapabilities: ['SYS_ADMIN', 'CHOWN'] },
    13,
    [],
  ],
  ['all but one', { addCapabilities: ['ALL'], dropCapabilities: ['CHOWN'] }, 40, ['CAP_SYS_ADMIN']],
  ['none but one', { addCapabilities: ['CHOWN'], dropCapabilities: ['ALL'] }, 1, ['CAP_CHOWN']],
]
for (const [claim, change, count, has] of NAMES) {
  test(`capabilities: ${claim}`, () => {
    const { bounding = [] } = sets(change)
    assert.is(bounding.length, count)
    for (const name of has) assert.ok(bounding.includes(name))
  })
}

test('ambient capabilities are in every set, unless dropped', () => {
  const given = sets({ dropCapabilities: ['ALL'], addAmbientCapabilities: ['NET_BIND_SERVICE'] })
  const only = ['CAP_NET_BIND_SERVICE']
  assert.equal(given, {
    bounding: only,
    effective: only,
    permitted: only,
    inheritable: only,
    ambient: only,
  })
  const dropped = sets({ dropCapabilities: ['KILL'], addAmbientCapabilities: ['KILL', 'CHOWN'] })
  assert.equal(dropped.ambient, ['CAP_CHOWN'])
  assert.is(sets({ addAmbientCapabilities: ['ALL'] }).ambient?.length, 41)
})

test('privileged has all, whatever is dropped', () =>
  assert.is(sets({ dropCapabilities: ['ALL'] }, true).bounding?.length, 41))

test('an unknown capability is refused', () =>
  refused(
    () => sets({ addCapabilities: ['CAP_MAGIC'] }),
    'INVALID_ARGUMENT',
    /linux\.security_context\.capabilities: "CAP_MAGIC"/,
  ))

test('a privileged container needs a privileged pod', () => {
  const pod = (privileged: boolean) => podConfig({ privileged }).linux?.securityContext ?? null
  assert.is(checkPrivileged(security({ privileged: true }), pod(true)), true)
  assert.is(checkPrivileged(security(), pod(true)), false)
  for (const context of [pod(false), null]) {
    refused(
      () => checkPrivileged(security({ privileged: true }), context),
      'INVALID_ARGUMENT',
      /security_context\.privileged/,
    )
  }
})

const profile = (
  profileType: SecurityProfile['profileType'],
  localhostRef = '',
): SecurityProfile => ({ profileType, localhostRef })
const directory = mkdtempSync(join(tmpdir(), 'berth-pod-'))
const PROFILE = join(directory, 'profile.json')
writeFileSync(PROFILE, '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}')

const FILTERS: [
  claim: string,
  change: Parameters<typeof security>[0],
  action: string | undefined,
][] = [
  ['nothing said: none', {}, undefined],
  ['Unconfined', { seccomp: profile('Unconfined') }, undefined],
  ['RuntimeDefault', { seccomp: profile('RuntimeDefault') }, 'SCMP_ACT_ERRNO'],
  ['a profile of the node', { seccomp: profile('Localhost', PROFILE) }, 'SCMP_ACT_ALLOW'],
  ['the old field: default', { seccompProfilePath: 'runtime/default' }, 'SCMP_ACT_ERRNO'],
  ['the old field: none', { seccompProfilePath: 'unconfined' }, undefined],
  ['the old field: a file', { seccompProfilePath: `localhost/${PROFILE}` }, 'SCMP_ACT_ALLOW'],
  [
    'the new field before the old one',
    { seccomp: profile('Unconfined'), seccompProfilePath: 'runtime/default' },
    undefined,
  ],
  ['privileged: none', { seccomp: profile('RuntimeDefault'), privileged: true }, undefined],
]
for (const [claim, change, action] of FILTERS) {
  test(`seccomp: ${claim}`, () =>
    assert.is(seccompOf(security(change), ['CAP_CHOWN'], '')?.defaultAction, action))
}

test('seccomp: a file of the administrator’s in place of the built-in default', () => {
  const asked = security({ seccomp: profile('RuntimeDefault') })
  assert.is(seccompOf(asked, [], PROFILE)?.defaultAction, 'SCMP_ACT_ALLOW')
  refused(
    () => seccompOf(asked, [], join(directory, 'none')),
    'NOT_FOUND',
    /default seccomp profile/,
  )
})

test('the default capabilities are those of the handler', () => {
  const only = capabilitySets(security({}), ['CAP_CHOWN'])
  assert.equal(only.bounding, ['CAP_CHOWN'])
})

test('a profile that cannot be read is refused by its path', () => {
  const at = (path: string) => () =>
    seccompOf(security({ seccomp: profile('Localhost', path) }), [], '')
  const broken = join(directory, 'broken.json')
  const huge = join(directory, 'huge.json')
  const fifo = join(directory, 'fifo')
  writeFileSync(broken, '{')
  writeFileSync(huge, '')
  truncateSync(huge, 5 * 1024 * 1024)
  execFileSync('mkfifo', [fifo])
  refused(at('profile.json'), 'INVALID_ARGUMENT', /seccomp\.localhost_ref: "profile\.json"/)
  refused(at(''), 'INVALID_ARGUMENT', /localhost_ref/)
  refused(at(join(directory, 'none')), 'NOT_FOUND', /security_context\.seccomp: no seccomp profile/)
  refused(at(`${PROFILE}/none`), 'NOT_FOUND', /no seccomp profile/)
  refused(at(broken), 'INVALID_ARGUMENT', /not valid JSON/)
  refused(at(huge), 'INVALID_ARGUMENT', /larger than/)
  refused(at(fifo), 'INVALID_ARGUMENT', /no regular file/)
  refused(at(directory), 'INVALID_ARGUMENT', /no regular file/)
})

test('an unknown kind of profile is refused', () => {
  const old = security({ seccompProfilePath: 'strict' })
  refused(() => seccompOf(old, [], ''), 'INVALID_ARGUMENT', /seccomp_profile_path: "strict"/)
  const unknown = security({ seccomp: profile(9 as never), apparmor: profile(9 as never) })
  refused(() => seccompOf(unknown, [], ''), 'UNIMPLEMENTED', /security_context\.seccomp/)
  refused(() => apparmorOf(unknown, WITH, never), 'UNIMPLEMENTED', /security_context\.apparmor/)
})

const WITH = { apparmor: true, selinux: true }
const WITHOUT = { apparmor: false, selinux: false }

test('AppArmor: nothing for nothing said, Unconfined and privileged', () => {
  for (const context of [
    null,
    security(),
    security({ apparmor: profile('Unconfined') }),
    security({ apparmorProfile: 'unconfined' }),
    security({ apparmor: profile('Localhost', 'mine'), privileged: true }),
  ]) {
    assert.is(apparmorOf(context, WITHOUT, never), undefined)
  }
})

test('AppArmor: a profile of the node is refused where the kernel has no AppArmor', () => {
  for (const change of [
    { apparmor: profile('Localhost', 'mine') },
    { apparmorProfile: 'localhost/mine' },
  ]) {
    refused(
      () => apparmorOf(security(change), WITHOUT, never),
      'FAILED_PRECONDITION',
      /security_context\.apparmor\w*: "mine" needs AppArmor/,
    )
  }
  const two = security({ apparmor: profile('Localhost', 'a\nb') })
  refused(() => apparmorOf(two, WITH, never), 'INVALID_ARGUMENT', /apparmor/)
})

test('AppArmor: that the default applies nothing is told, once', () => {
  const warnings: string[] = []
  const warn = onceEach((message) => warnings.push(message))
  const context = security({ apparmor: profile('RuntimeDefault') })
  for (let i = 0; i < 3; i++) assert.is(apparmorOf(context, WITHOUT, warn), undefined)
  assert.is(warnings.length, 1)
  assert.match(warnings.join(), /apparmor: RuntimeDefault applies nothing/)
})

test('SELinux: options are told of without SELinux, and refused with it', () => {
  const warnings: string[] = []
  const selinuxOptions = { user: '', role: '', type: '', level: 's0:c1' }
  checkSelinux(security({ selinuxOptions }), WITHOUT, (message) => warnings.push(message))
  assert.match(warnings.join(), /selinux_options has no effect/)
  refused(
    () => checkSelinux(security({ selinuxOptions }), WITH, never),
    'UNIMPLEMENTED',
    /selinux_options/,
  )
  const empty = { user: '', role: '', type: '', level: '' }
  checkSelinux(security({ selinuxOptions: empty }), WITH, never)
  checkSelinux(security({ selinuxOptions, privileged: true }), WITH, never)
  checkSelinux(null, WITH, never)
})

test.after(() => rmSync(directory, { recursive: true }))
test.run()
