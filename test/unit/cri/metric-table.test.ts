import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BASE_LABELS, METRICS } from '../../../src/cri/metric-table.ts'
import type { Figures } from '../../../src/cri/metric-values.ts'

const traffic = { bytes: 1n, packets: 2n, errors: 3n, dropped: 4n }
const some = { avg10: 0, avg60: 0, avg300: 0, totalUs: 2_999_999n }
const pressure = { some, full: { ...some, totalUs: 1_000_000n } }

/** Everything that a host can tell. */
const all: Figures = {
  seenNs: 1_700_000_000_999_999_999n,
  startedNs: 1_600_000_000_999_999_999n,
  cpu: {
    usageUs: 3_999_999n,
    userUs: 2_000_000n,
    systemUs: 1_999_999n,
    periods: 10n,
    throttledPeriods: 4n,
    throttledUs: 7_500_000n,
  },
  memory: {
    usage: 100n,
    workingSet: 90n,
    peak: 200n,
    anon: 50n,
    file: 40n,
    mapped: 30n,
    kernel: 5n,
    swap: 6n,
    limitHits: 7n,
    oomKills: 1n,
    faults: 11n,
    majorFaults: 2n,
    limit: undefined,
  },
  hugepages: [
    { pageSize: '2MB', currentBytes: 1n, peakBytes: 2n },
    { pageSize: '1GB', currentBytes: 3n, peakBytes: 4n },
  ],
  pressure: { cpu: pressure, memory: pressure, io: pressure },
  io: [
    {
      device: '/dev/sda',
      major: 8,
      minor: 0,
      readBytes: 1n,
      writtenBytes: 2n,
      reads: 3n,
      writes: 4n,
    },
    { device: '8:16', major: 8, minor: 16, readBytes: 5n, writtenBytes: 6n, reads: 7n, writes: 8n },
  ],
  network: [{ name: 'eth0', received: traffic, sent: traffic }],
  processes: {
    count: 2n,
    threads: 3n,
    threadsMax: 0n,
    descriptors: 9n,
    sockets: 1n,
    openFilesLimit: 1024n,
  },
  filesystem: {
    device: '/dev/sda1',
    usage: { totalBytes: 10, availableBytes: 5, inodes: 8, inodesFree: 3 },
    layer: { bytes: 4096, inodes: 2, timestampNs: 1n },
  },
  resources: {
    cpuPeriod: '50000',
    cpuQuota: '20000',
    cpuShares: '2',
    oomScoreAdj: '0',
    memoryLimitInBytes: '64',
    memorySwapLimitInBytes: '128',
    cpusetCpus: '',
    cpusetMems: '',
    hugepageLimits: [],
    unified: { 'memory.min': '32' },
  },
}

const valuesOf = (name: string, of: Figures) => {
  const row = METRICS.find((each) => each.name === name)
  if (!row) throw new Error(`no metric ${name}`)
  return row.values(of)
}

test('names and help are there, once each, in the words of Prometheus', () => {
  const names = METRICS.map(({ name }) => name)
  assert.is(new Set(names).size, names.length)
  for (const { name, help, labels } of METRICS) {
    assert.match(name, /^container_[a-z_]+$/)
    assert.match(help, /^[A-Z].{5,}\.?$/)
    const keys = [...BASE_LABELS, ...labels]
    assert.is(new Set(keys).size, keys.length, name)
    for (const key of keys) assert.match(key, /^[a-z_]+$/)
  }
  assert.is(new Set(METRICS.map(({ help }) => help)).size, METRICS.length)
})

test('a total is a counter, but for the number of inodes that there are', () => {
  for (const { name, type } of METRICS) {
    const isCounter =
      name === 'container_memory_failcnt' ||
      (name.endsWith('_total') && name !== 'container_fs_inodes_total')
    assert.is(type, isCounter ? 'COUNTER' : 'GAUGE', name)
  }
})

test('every metric has values where the host tells all, each with its own labels, no two alike', () => {
  for (const { name, labels, values } of METRICS) {
    const found = values(all)
    assert.ok(found.length > 0, name)
    for (const [value, ...given] of found) {
      assert.is(typeof value, 'bigint', name)
      assert.is(given.length, labels.length, name)
    }
    assert.is(new Set(found.map(([, ...given]) => given.join())).size, found.length, name)
  }
})

test('of nothing known nothing is told but the time', () => {
  const told = METRICS.filter(({ values }) => values({ seenNs: 5_000_000_000n }).length > 0)
  assert.equal(
    told.map(({ name }) => name),
    ['container_last_seen'],
  )
})

test('seconds are whole', () => {
  assert.equal(valuesOf('container_cpu_usage_seconds_total', all), [[3n, 'total']])
  assert.equal(valuesOf('container_cpu_system_seconds_total', all), [[1n]])
  assert.equal(valuesOf('container_cpu_cfs_throttled_seconds_total', all), [[7n]])
  assert.equal(valuesOf('container_pressure_io_waiting_seconds_total', all), [[2n]])
  assert.equal(valuesOf('container_pressure_io_stalled_seconds_total', all), [[1n]])
  assert.equal(valuesOf('container_start_time_seconds', all), [[1_600_000_000n]])
})

test('without the cpu controller no period has gone by', () => {
  const cpu = { usageUs: 1n, userUs: 1n, systemUs: 0n }
  const without = { periods: undefined, throttledPeriods: undefined, throttledUs: undefined }
  for (const name of ['periods', 'throttled_periods', 'throttled_seconds']) {
    const of = { seenNs: 0n, cpu: { ...cpu, ...without } }
    assert.equal(valuesOf(`container_cpu_cfs_${name}_total`, of), [[0n]])
  }
})

test("what was asked for: the kernel's default, no limit, the given amounts", () => {
  const given = (resources: Partial<NonNullable<Figures['resources']>>): Figures => ({
    seenNs: 0n,
    resources: { ...(all.resources as NonNullable<Figures['resources']>), ...resources },
  })
  assert.equal(valuesOf('container_spec_cpu_period', all), [[50_000n]])
  assert.equal(valuesOf('container_spec_cpu_period', given({ cpuPeriod: '0' })), [[100_000n]])
  assert.equal(valuesOf('container_spec_cpu_quota', all), [[20_000n]])
  for (const cpuQuota of ['-1', '0'])
    assert.equal(valuesOf('container_spec_cpu_quota', given({ cpuQuota })), [])
  assert.equal(valuesOf('container_spec_cpu_shares', given({ cpuShares: '0' })), [[1024n]])
  assert.equal(valuesOf('container_spec_memory_limit_bytes', all), [[64n]])
  // The kernel rounds to pages: 80,000,000 bytes are 79,998,976 in force.
  const memory = { ...(all.memory as NonNullable<Figures['memory']>), limit: 60n }
  assert.equal(valuesOf('container_spec_memory_limit_bytes', { ...all, memory }), [[60n]])
  const endless = given({ memoryLimitInBytes: '-1', unified: { 'memory.min': 'max' } })
  assert.equal(valuesOf('container_spec_memory_limit_bytes', endless), [[0n]])
  assert.equal(valuesOf('container_spec_memory_reservation_limit_bytes', endless), [[0n]])
})

test('devices are told by name, number and direction', () => {
  assert.equal(valuesOf('container_blkio_device_usage_total', all), [
    [1n, '/dev/sda', '8', '0', 'Read'],
    [2n, '/dev/sda', '8', '0', 'Write'],
    [5n, '8:16', '8', '16', 'Read'],
    [6n, '8:16', '8', '16', 'Write'],
  ])
})

test.run()
