import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseMemoryEvents } from '../../../src/cgroup/events.ts'
import { groupStats, parseCpu, parseIo, parsePressure } from '../../../src/cgroup/stats.ts'

test('cpu.stat without the controller has times and no throttling', () => {
  assert.equal(parseCpu('usage_usec 100\nuser_usec 60\nsystem_usec 40\nnice_usec 0\n'), {
    usageUs: 100n,
    userUs: 60n,
    systemUs: 40n,
    periods: undefined,
    throttledPeriods: undefined,
    throttledUs: undefined,
  })
})

test('io.stat has a line a device, and devices without transfers', () => {
  assert.equal(
    parseIo('8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:1 \n7:0\n(unknown)\n'),
    [
      { major: 8, minor: 0, readBytes: 1n, writtenBytes: 2n, reads: 3n, writes: 4n },
      { major: 254, minor: 1, readBytes: 0n, writtenBytes: 0n, reads: 0n, writes: 0n },
      { major: 7, minor: 0, readBytes: 0n, writtenBytes: 0n, reads: 0n, writes: 0n },
    ],
  )
})

test('pressure has some, and full where the kernel tells', () => {
  const some = { avg10: 1.5, avg60: 0.25, avg300: 0, totalUs: 12n }
  const line = 'some avg10=1.50 avg60=0.25 avg300=0.00 total=12\n'
  assert.equal(parsePressure(line), { some, full: undefined })
  assert.equal(parsePressure(`${line}${line.replace('some', 'full')}`), { some, full: some })
  assert.is(parsePressure(undefined), undefined)
  assert.is(parsePressure(''), undefined)
})

test('memory.events of an older kernel has no group kills', () => {
  assert.equal(parseMemoryEvents('low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n'), {
    low: 0,
    high: 1,
    max: 2,
    oom: 3,
    oomKill: 4,
    oomGroupKill: 0,
  })
})

test('statistics hold what the controllers give, and max is no limit', () => {
  const directory = mkdtempSync(join(tmpdir(), 'berth-stats-'))
  try {
    assert.is(groupStats(directory).cpu, undefined)
    const files = {
      'cgroup.controllers': 'hugetlb io memory pids\n',
      'cpu.stat': 'usage_usec 5\n',
      'memory.current': '1000\n',
      'memory.max': 'max\n',
      'memory.stat': 'anon 600\nfile 300\ninactive_file 250\npgfault 7\npgmajfault 1\n',
      'pids.current': '3\n',
      'pids.max': '32\n',
      'hugetlb.2MB.current': '0\n',
      'hugetlb.2MB.max': '4194304\n',
      'hugetlb.2MB.events': 'max 2\n',
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
    const stats = groupStats(directory)
    assert.is(stats.memory?.workingSetBytes, 750n)
    assert.is(stats.memory?.maxBytes, undefined)
    assert.is(stats.memory?.peakBytes, undefined)
    assert.is(stats.memory?.pageFaults, 7n)
    assert.equal(stats.pids, { current: 3n, max: 32n })
    assert.equal(stats.hugepages, [
      { pageSize: '2MB', currentBytes: 0n, maxBytes: 4194304n, refused: 2n },
    ])
    assert.is(stats.io, undefined)
    assert.is(stats.pressure.cpu, undefined)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test.run()
