import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  checkedResources,
  mergedResources,
  NO_RESOURCES,
  ociResources,
} from '../../../src/pod/resources.ts'
import type { LinuxContainerResources } from '../../../src/spec/cri.ts'
import { refused } from './config.ts'

type Change = Partial<LinuxContainerResources>
const MIB = 1024 * 1024
const checked = (change: Change) =>
  checkedResources('linux.resources', { ...NO_RESOURCES, ...change })
const oci = (change: Change) => ociResources('linux.resources', checked(change), ['hugetlb'])

const CASES: [claim: string, change: Change, expect: unknown][] = [
  ['nothing asked, nothing limited', {}, {}],
  [
    'cpu',
    {
      cpuPeriod: '100000',
      cpuQuota: '50000',
      cpuShares: '512',
      cpusetCpus: '0-1',
      cpusetMems: '0',
    },
    { cpu: { period: 100000, quota: 50000, shares: 512, cpus: '0-1', mems: '0' } },
  ],
  ['no quota', { cpuQuota: '-1' }, { cpu: { quota: -1 } }],
  ['memory', { memoryLimitInBytes: String(64 * MIB) }, { memory: { limit: 64 * MIB } }],
  [
    'memory and no swap',
    { memoryLimitInBytes: String(64 * MIB), memorySwapLimitInBytes: String(64 * MIB) },
    { memory: { limit: 64 * MIB, swap: 64 * MIB } },
  ],
  ['swap without bound', { memorySwapLimitInBytes: '-1' }, { memory: { swap: -1 } }],
  [
    'huge pages, also none',
    { hugepageLimits: [{ pageSize: '2MB', limit: '0' }] },
    { hugepageLimits: [{ pageSize: '2MB', limit: 0 }] },
  ],
  ['raw files', { unified: { 'memory.oom.group': '1' } }, { unified: { 'memory.oom.group': '1' } }],
  ['the oom score is the process’s', { oomScoreAdj: '-997' }, {}],
]
for (const [claim, change, expect] of CASES) test(claim, () => assert.equal(oci(change), expect))

const REFUSED: [claim: string, change: Change, message: RegExp][] = [
  ['no number', { cpuShares: 'many' }, /linux\.resources\.cpu_shares: "many"/],
  ['a number with a tail', { cpuShares: '1e3' }, /cpu_shares/],
  ['negative shares', { cpuShares: '-1' }, /cpu_shares/],
  ['a period below the kernel’s', { cpuPeriod: '999' }, /cpu_period: 999 is below the minimum/],
  ['a period above the kernel’s', { cpuPeriod: '1000001' }, /cpu_period/],
  ['a quota below the kernel’s', { cpuQuota: '999' }, /cpu_quota: 999/],
  ['a quota of -2', { cpuQuota: '-2' }, /cpu_quota/],
  [
    'memory too small to start in',
    { memoryLimitInBytes: '4096' },
    /memory_limit_in_bytes: 4096 is below the minimum of 524288/,
  ],
  [
    'memory beyond all numbers',
    { memoryLimitInBytes: '9223372036854775807' },
    /memory_limit_in_bytes/,
  ],
  [
    'swap below memory',
    { memoryLimitInBytes: String(64 * MIB), memorySwapLimitInBytes: String(MIB) },
    /memory_swap_limit_in_bytes.*below memory_limit_in_bytes/,
  ],
  [
    'swap without memory',
    { memorySwapLimitInBytes: String(MIB) },
    /memory_swap_limit_in_bytes: needs/,
  ],
  ['an oom score out of range', { oomScoreAdj: '1001' }, /oom_score_adj/],
  ['a list of processors that is none', { cpusetCpus: '0;1' }, /linux\.resources: .*cpu\.cpus/],
  ['a NUL in a list', { cpusetMems: '0\0' }, /cpuset_mems: holds a NUL/],
  [
    'a page size that is a path',
    { hugepageLimits: [{ pageSize: '../2MB', limit: '0' }] },
    /hugepage_limits\[0\]\.page_size/,
  ],
  [
    'a negative number of huge pages',
    { hugepageLimits: [{ pageSize: '2MB', limit: '-1' }] },
    /hugepage_limits\[0\]\.limit/,
  ],
  ['a raw file elsewhere', { unified: { '../memory.max': '1' } }, /unified\["\.\.\/memory\.max"\]/],
  [
    'a raw file that moves processes',
    { unified: { 'cgroup.procs': '1' } },
    /linux\.resources: .*cgroup\.procs/,
  ],
  ['a NUL in a raw value', { unified: { 'memory.max': '1\0' } }, /unified/],
]
for (const [claim, change, message] of REFUSED) {
  test(`refused: ${claim}`, () => refused(() => oci(change), 'INVALID_ARGUMENT', message))
}

test('nothing given is no limit', () =>
  assert.equal(checkedResources('linux.resources', null), NO_RESOURCES))

const before = checked({
  cpuPeriod: '100000',
  cpuQuota: '50000',
  cpuShares: '512',
  memoryLimitInBytes: String(64 * MIB),
  memorySwapLimitInBytes: String(96 * MIB),
  oomScoreAdj: '900',
  cpusetCpus: '0-3',
  hugepageLimits: [
    { pageSize: '2MB', limit: '0' },
    { pageSize: '1GB', limit: '0' },
  ],
  unified: { 'memory.oom.group': '1' },
})
const merged = (change: Change) => mergedResources(before, checked(change))

const UPDATES: [claim: string, change: Change, expect: Change][] = [
  ['one that says nothing changes nothing', {}, {}],
  ['processors alone', { cpusetCpus: '1' }, { cpusetCpus: '1' }],
  ['a quota taken away', { cpuQuota: '-1' }, { cpuQuota: '-1' }],
  [
    'memory alone leaves as much swap',
    { memoryLimitInBytes: String(128 * MIB) },
    { memoryLimitInBytes: String(128 * MIB), memorySwapLimitInBytes: String(160 * MIB) },
  ],
  [
    'memory and swap',
    { memoryLimitInBytes: String(32 * MIB), memorySwapLimitInBytes: String(32 * MIB) },
    { memoryLimitInBytes: String(32 * MIB), memorySwapLimitInBytes: String(32 * MIB) },
  ],
  [
    'no memory limit leaves no swap limit',
    { memoryLimitInBytes: '-1' },
    { memoryLimitInBytes: '-1', memorySwapLimitInBytes: '-1' },
  ],
  ['the oom score of a running process stays', { oomScoreAdj: '5' }, {}],
  [
    'one page size, one raw file',
    { hugepageLimits: [{ pageSize: '1GB', limit: '7' }], unified: { 'memory.high': '9' } },
    {
      hugepageLimits: [
        { pageSize: '2MB', limit: '0' },
        { pageSize: '1GB', limit: '7' },
      ],
      unified: { 'memory.oom.group': '1', 'memory.high': '9' },
    },
  ],
]
for (const [claim, change, expect] of UPDATES) {
  test(`an update: ${claim}`, () => {
    assert.equal(merged(change), { ...before, ...expect })
    ociResources('linux.resources', merged(change), [])
  })
}

test('a limit of no huge pages is none to refuse where the controller is missing; any other is kept', () => {
  const limits = [
    { pageSize: '2MB', limit: '0' },
    { pageSize: '1GB', limit: '7' },
  ]
  assert.equal(
    ociResources('linux.resources', checked({ hugepageLimits: limits }), []).hugepageLimits,
    [{ pageSize: '1GB', limit: 7 }],
  )
})

test.run()
