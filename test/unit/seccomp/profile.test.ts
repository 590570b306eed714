import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../../src/base/fault.ts'
import { readProfile } from '../../../src/seccomp/index.ts'

const CONTEXT = {
  capabilities: ['CAP_KILL', 'CAP_BPF'],
  architecture: 'x64',
  kernel: '6.1.0-30-amd64',
}

/** The names of the rules that apply, for rules with these conditions. */
function names(...conditions: { includes?: unknown; excludes?: unknown }[]): string[] {
  const syscalls = conditions.map((c, i) => ({
    names: [`call${i}`],
    action: 'SCMP_ACT_ALLOW',
    ...c,
  }))
  const section = readProfile({ defaultAction: 'SCMP_ACT_ERRNO', syscalls }, CONTEXT)
  return (section?.syscalls ?? []).flatMap((rule) => rule.names)
}

const cases: [string, { includes?: unknown; excludes?: unknown }, boolean][] = [
  ['no condition', {}, true],
  ['empty conditions', { includes: {}, excludes: {} }, true],
  ['conditions of null', { includes: null, excludes: { caps: null } }, true],
  ['all capabilities included', { includes: { caps: ['CAP_KILL', 'CAP_BPF'] } }, true],
  [
    'one of two included capabilities',
    { includes: { caps: ['CAP_KILL', 'CAP_SYS_ADMIN'] } },
    false,
  ],
  ['one of two excluded capabilities', { excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_BPF'] } }, false],
  ['other excluded capabilities', { excludes: { caps: ['CAP_SYS_ADMIN'] } }, true],
  ['this architecture', { includes: { arches: ['arm64', 'amd64'] } }, true],
  ['another architecture', { includes: { arches: ['s390x'] } }, false],
  ['this architecture excluded', { excludes: { arches: ['amd64'] } }, false],
  ['an older kernel', { includes: { minKernel: '4.8' } }, true],
  ['the same kernel', { includes: { minKernel: '6.1' } }, true],
  ['a newer minor', { includes: { minKernel: '6.10' } }, false],
  ['a newer kernel excluded', { excludes: { minKernel: '6.2' } }, true],
  ['an older kernel excluded', { excludes: { minKernel: '5.19' } }, false],
]
for (const [name, condition, applies] of cases) {
  test(`a rule with ${name} ${applies ? 'applies' : 'does not apply'}`, () => {
    assert.equal(names(condition), applies ? ['call0'] : [])
  })
}

test('archMap gives the native architecture with its sub-architectures', () => {
  const archMap = [
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    { architecture: 'SCMP_ARCH_RISCV64', subArchitectures: null },
  ]
  const section = readProfile({ defaultAction: 'SCMP_ACT_ERRNO', archMap, syscalls: [] }, CONTEXT)
  assert.equal(section?.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'])
})

test('a section of the OCI passes as it is', () => {
  const section = {
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86'],
    defaultErrnoRet: 2,
    flags: ['SECCOMP_FILTER_FLAG_LOG'],
    syscalls: [
      {
        names: ['read'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, op: 'SCMP_CMP_MASKED_EQ', value: 1, valueTwo: 0 }],
      },
    ],
  }
  assert.equal(readProfile(section, CONTEXT), section)
})

test('the old form with one name is read', () => {
  const section = readProfile(
    {
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: [{ name: 'read', action: 'SCMP_ACT_ALLOW', args: null }],
    },
    CONTEXT,
  )
  assert.equal(section?.syscalls, [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }])
})

test('an empty profile is no filter', () => assert.is(readProfile({}, CONTEXT), undefined))

const bad: [string, unknown][] = [
  ['a list', []],
  ['null', null],
  ['no default action', { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }] }],
  ['architectures and archMap', { defaultAction: 'x', architectures: ['a'], archMap: [{}] }],
  ['name and names', { defaultAction: 'x', syscalls: [{ name: 'a', names: ['b'], action: 'x' }] }],
  ['a number as name', { defaultAction: 'x', syscalls: [{ names: [1], action: 'x' }] }],
  ['syscalls of text', { defaultAction: 'x', syscalls: 'read' }],
  [
    'a kernel without minor',
    { defaultAction: 'x', syscalls: [{ names: ['a'], action: 'x', includes: { minKernel: '4' } }] },
  ],
]
for (const [name, profile] of bad) {
  test(`a profile with ${name} is refused`, () => {
    assert.throws(
      () => readProfile(profile, CONTEXT),
      (e: unknown) => e instanceof Fault && /^seccomp profile: /.test(e.message),
    )
  })
}

test.run()
