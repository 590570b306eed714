import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { limitResources, splitDevice } from '../../../src/engine/resources.ts'

const MIB = 1024 * 1024
const CASES: [claim: string, given: Parameters<typeof limitResources>[0], expect: unknown][] = [
  ['nothing asked, nothing there', {}, {}],
  [
    'zeroes are nothing asked',
    { cpus: 0, cpuShares: 0, cpuQuota: 0, blkioWeight: 0, cpusetCpus: '' },
    {},
  ],
  [
    '--memory alone gives as much swap (docker’s rule)',
    { memory: 64 * MIB },
    { memory: { limit: 64 * MIB, swap: 128 * MIB } },
  ],
  [
    '--memory-swap is memory and swap together',
    { memory: 64 * MIB, memorySwap: 65 * MIB },
    { memory: { limit: 64 * MIB, swap: 65 * MIB } },
  ],
  [
    '--memory-swap -1 is no bound',
    { memory: 64 * MIB, memorySwap: -1 },
    { memory: { limit: 64 * MIB, swap: -1 } },
  ],
  ['--cpus is a quota of 100 ms', { cpus: 0.5 }, { cpu: { period: 100_000, quota: 50_000 } }],
  [
    '--cpus below the kernel’s floor is the floor',
    { cpus: 0.001 },
    { cpu: { period: 100_000, quota: 1000 } },
  ],
  ['--pids-limit 0 and -1 are no bound', { pidsLimit: 0 }, { pids: { limit: -1 } }],
  ['--pids-limit', { pidsLimit: 32 }, { pids: { limit: 32 } }],
  [
    'shares, sets and weights as they are',
    { cpuShares: 512, cpusetCpus: '0-1', cpusetMems: '0', blkioWeight: 500 },
    { cpu: { shares: 512, cpus: '0-1', mems: '0' }, blockIO: { weight: 500 } },
  ],
]
for (const [claim, given, expect] of CASES)
  test(claim, () => assert.equal(limitResources(given), expect))

const REFUSED: [given: Parameters<typeof limitResources>[0], says: RegExp][] = [
  [{ memory: 1024 }, /512 KiB/],
  [{ memorySwap: MIB }, /needs --memory/],
  [{ memory: 2 * MIB, memorySwap: MIB }, /below --memory/],
  [{ memory: MIB, memoryReservation: 2 * MIB }, /above --memory/],
  [{ cpus: 1, cpuQuota: 1000 }, /--cpus/],
  [{ deviceReadBps: [{ path: '/dev/null', rate: 1 }] }, /not a block device/],
  [{ deviceWriteIops: [{ path: '/no/such', rate: 1 }] }, /no device \/no\/such/],
]
for (const [given, says] of REFUSED) {
  test(`refused: ${JSON.stringify(given)}`, () => assert.throws(() => limitResources(given), says))
}

test('device numbers are taken apart as glibc does', () => {
  assert.equal(splitDevice(0x0103), { major: 1, minor: 3 })
  assert.equal(splitDevice(0x1234_5678), { major: 0x456, minor: 0x12378 })
})

test.run()
