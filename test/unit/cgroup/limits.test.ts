import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../../src/base/fault.ts'
import { cpuWeight, limitWrites } from '../../../src/cgroup/limits.ts'
import type { Resources } from '../../../src/spec/runtime.ts'

/** `file=value` of each write in order; `?` marks a share, `*` a file that may be missing, `|` what is written instead. */
function written(resources: Resources): string[] {
  return limitWrites(resources).map((w) => {
    const instead = w.instead ? `|${w.instead.file}=${w.instead.value}` : ''
    return `${w.kind === 'share' ? '?' : ''}${w.fileOptional ? '*' : ''}${w.file}=${w.value}${instead}`
  })
}

const TABLE: [string, Resources, string[]][] = [
  ['nothing asked is nothing written', {}, []],
  [
    'zeros are how Go clients say nothing',
    {
      cpu: { shares: 0, quota: 0, period: 0, burst: 0 },
      memory: { limit: 0, swap: 0, reservation: 0, kernel: 0 },
      blockIO: { weight: 0, leafWeight: 0 },
    },
    ['cpu.max.burst=0'],
  ],
  ['shares become a weight', { cpu: { shares: 512 } }, ['?cpu.weight=59']],
  ['an idle group has no weight', { cpu: { shares: 512, idle: 1 } }, ['?cpu.idle=1']],
  ['a quota has the default period', { cpu: { quota: 50000 } }, ['cpu.max=50000 100000']],
  ['a period alone limits nothing', { cpu: { period: 20000 } }, ['cpu.max=max 20000']],
  ['quota -1 is none', { cpu: { quota: -1, period: 20000 } }, ['cpu.max=max 20000']],
  [
    'an old burst makes room for a new quota',
    { cpu: { quota: 5000, period: 10000, burst: 1000 } },
    ['cpu.max.burst=0', 'cpu.max=5000 10000', 'cpu.max.burst=1000'],
  ],
  ['cpusets', { cpu: { cpus: '0-1,3', mems: '0' } }, ['cpuset.cpus=0-1,3', 'cpuset.mems=0']],
  ['memory alone leaves swap', { memory: { limit: 1024 } }, ['memory.max=1024']],
  [
    'swap is memory and swap without memory',
    { memory: { limit: 1000, swap: 3000 } },
    ['memory.swap.max=2000', 'memory.max=1000'],
  ],
  [
    'equal swap is no swap, also where the kernel has none',
    { memory: { limit: 1000, swap: 1000 } },
    ['*memory.swap.max=0', 'memory.max=1000'],
  ],
  ['swap -1 is max', { memory: { limit: 1, swap: -1 } }, ['*memory.swap.max=max', 'memory.max=1']],
  [
    'memory -1 takes the swap limit away, too',
    { memory: { limit: -1 } },
    ['*memory.swap.max=max', 'memory.max=max'],
  ],
  ['a reservation is memory.low', { memory: { reservation: 5 } }, ['?memory.low=5']],
  [
    'limits beyond 2^53 stay whole digits',
    { memory: { limit: 2 ** 63 } },
    ['memory.max=9223372036854775808'],
  ],
  ['0 processes are 0', { pids: { limit: 0 } }, ['pids.max=0']],
  ['-1 processes are max', { pids: { limit: -1 } }, ['pids.max=max']],
  [
    'weights for BFQ, or else converted',
    { blockIO: { weight: 1000, weightDevice: [{ major: 8, minor: 16, weight: 10 }] } },
    ['?io.bfq.weight=1000|io.weight=default 10000', '?io.bfq.weight=8:16 10|io.weight=8:16 1'],
  ],
  [
    'throttles, where 0 takes one away',
    {
      blockIO: {
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1048576 }],
        throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
      },
    },
    ['io.max=8:0 rbps=1048576', 'io.max=8:0 wiops=max'],
  ],
  [
    'huge pages and their reservations',
    { hugepageLimits: [{ pageSize: '2MB', limit: 4194304 }] },
    ['hugetlb.2MB.max=4194304', '*hugetlb.2MB.rsvd.max=4194304'],
  ],
  [
    'rdma',
    { rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 10000 } } },
    ['rdma.max=mlx5_1 hca_handle=3 hca_object=10000'],
  ],
  [
    'raw values come last, line by line',
    {
      unified: { 'memory.high': '100', 'io.max': '8:0 rbps=1\n8:16 rbps=2\n' },
      pids: { limit: 1 },
    },
    ['pids.max=1', 'memory.high=100', 'io.max=8:0 rbps=1', 'io.max=8:16 rbps=2'],
  ],
  ['an empty raw value is written', { unified: { 'cpuset.cpus': '' } }, ['cpuset.cpus=']],
]

for (const [claim, resources, expected] of TABLE) {
  test(claim, () => assert.equal(written(resources), expected))
}

const REFUSED: [string, Resources, FaultCode, RegExp][] = [
  ['kernel memory', { memory: { kernel: 1 } }, 'UNIMPLEMENTED', /memory\.kernel /],
  ['kernel TCP memory', { memory: { kernelTCP: 1 } }, 'UNIMPLEMENTED', /memory\.kernelTCP/],
  ['swappiness', { memory: { swappiness: 0 } }, 'UNIMPLEMENTED', /swappiness/],
  ['no OOM killer', { memory: { disableOOMKiller: true } }, 'UNIMPLEMENTED', /OOMKiller/],
  ['no hierarchy', { memory: { useHierarchy: false } }, 'UNIMPLEMENTED', /useHierarchy/],
  ['realtime', { cpu: { realtimeRuntime: 1 } }, 'UNIMPLEMENTED', /realtimeRuntime/],
  ['network classes', { network: { classID: 1 } }, 'UNIMPLEMENTED', /classID/],
  [
    'network priorities',
    { network: { priorities: [{ name: 'eth0', priority: 1 }] } },
    'UNIMPLEMENTED',
    /priorities/,
  ],
  ['leaf weights', { blockIO: { leafWeight: 10 } }, 'UNIMPLEMENTED', /leafWeight/],
  ['swap without memory', { memory: { swap: 5 } }, 'INVALID_ARGUMENT', /memory\.swap/],
  ['swap below memory', { memory: { limit: 9, swap: 5 } }, 'INVALID_ARGUMENT', /together/],
  ['half a byte', { memory: { limit: 0.5 } }, 'INVALID_ARGUMENT', /memory\.limit/],
  ['memory -2', { memory: { limit: -2 } }, 'INVALID_ARGUMENT', /memory\.limit/],
  ['a cpuset with a newline', { cpu: { cpus: '0\n1' } }, 'INVALID_ARGUMENT', /cpu\.cpus/],
  ['a weight of 5', { blockIO: { weight: 5 } }, 'INVALID_ARGUMENT', /blockIO\.weight/],
  ['a weight of 1001', { blockIO: { weight: 1001 } }, 'INVALID_ARGUMENT', /blockIO\.weight/],
  [
    'a page size with a slash',
    { hugepageLimits: [{ pageSize: '../2MB', limit: 1 }] },
    'INVALID_ARGUMENT',
    /page size/,
  ],
  ['an rdma device with a space', { rdma: { 'a b': {} } }, 'INVALID_ARGUMENT', /rdma/],
  ['a raw file elsewhere', { unified: { '../pids.max': '1' } }, 'INVALID_ARGUMENT', /no file/],
  ['a raw file below', { unified: { 'a/pids.max': '1' } }, 'INVALID_ARGUMENT', /no file/],
  ['dots as a raw file', { unified: { '..': '1' } }, 'INVALID_ARGUMENT', /no file/],
  ['moving processes', { unified: { 'cgroup.procs': '1' } }, 'INVALID_ARGUMENT', /core files/],
  ['killing', { unified: { 'cgroup.kill': '1' } }, 'INVALID_ARGUMENT', /core files/],
  ['an unknown controller', { unified: { 'net.max': '1' } }, 'INVALID_ARGUMENT', /"net"/],
  [
    'too many raw files',
    { unified: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`memory.f${i}`, '1'])) },
    'INVALID_ARGUMENT',
    /more than 256/,
  ],
]

for (const [name, resources, code, message] of REFUSED) {
  test(`${name}: ${code} by name`, () => {
    assert.throws(
      () => limitWrites(resources),
      (error: unknown) =>
        error instanceof Fault && error.code === code && message.test(error.message),
    )
  })
}

test('the weight curve goes through both ends and both defaults, and never falls', () => {
  assert.equal(
    [0, 1, 2, 1024, 262143, 262144, 1e9].map(cpuWeight),
    [0, 1, 1, 100, 10000, 10000, 10000],
  )
  let last = 1
  for (let shares = 2; shares < 262_144; shares += 97) {
    const weight = cpuWeight(shares)
    assert.ok(weight >= last && weight <= 10_000)
    last = weight
  }
})

test.run()
