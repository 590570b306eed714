import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { groupStats } from '../../src/cgroup/stats.ts'
import { forgetGroup, type GroupUsage, readGroups } from '../../src/kernel/group-usage.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root', 'cgroup2')

const group = join(cgroupRoot(), `group-usage-${process.pid}`)
const filesOpen = (): number => readdirSync('/proc/self/fd').length

test.before.each(() => mkdirSync(group))
test.after.each(() => {
  forgetGroup(group)
  rmdirSync(group)
})

/** The one there is. */
async function usage(processes = false): Promise<GroupUsage> {
  const [found] = await readGroups([group], processes)
  if (!found) throw new Error('no row')
  return found
}

async function inside(act: (child: ChildProcess) => Promise<void>): Promise<void> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  try {
    writeFileSync(join(group, 'cgroup.procs'), String(child.pid))
    await act(child)
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

test('it is what the files say, also from those that stay open', () =>
  inside(async () => {
    for (let look = 0; look < 3; look++) {
      const before = groupStats(group)
      const now = await usage()
      const files = groupStats(group)
      // It may still be at its start.
      const cpuUs = Number(now.cpuUs)
      assert.ok(Number(before.cpu?.usageUs) <= cpuUs && cpuUs <= Number(files.cpu?.usageUs))
      assert.is(now.pids, files.pids && Number(files.pids.current))
      assert.is(now.memoryBytes, files.memory && Number(files.memory.currentBytes))
      assert.is(now.memoryLimitBytes, files.memory?.maxBytes && Number(files.memory.maxBytes))
      assert.is(now.residentBytes, undefined)
      for (const of of ['cpu', 'memory', 'io'] as const) {
        const { some, full } = files.pressure[of] ?? {}
        assert.is(now.some(of)?.avg300, some?.avg300)
        assert.is(now.full(of)?.avg60, full?.avg60)
        assert.ok((now.some(of)?.totalUs ?? 0) <= Number(some?.totalUs ?? 0))
      }
    }
  }))

test('many groups, read by several threads, are each told in their place', () =>
  inside(async () => {
    const others = Array.from({ length: 100 }, (_, i) => join(group, `other${i}`))
    const directories = [...others.slice(0, 70), group, ...others.slice(70)]
    for (const path of others) mkdirSync(path)
    try {
      for (let look = 0; look < 3; look++) {
        const all = await readGroups(directories, true)
        const nested = all.flatMap(({ isNested }, i) => (isNested ? [i] : []))
        assert.equal(nested, [70], 'the one with groups below it')
        assert.ok(all.every(({ cpuUs }, i) => i === 70 || cpuUs === 0))
      }
      const missing = await readGroups([...others, join(group, 'gone'), ...others], true)
      assert.equal(
        missing.flatMap(({ cpuUs }, i) => (cpuUs === undefined ? [i] : [])),
        [100],
        'one that is gone',
      )
    } finally {
      for (const path of others) {
        forgetGroup(path)
        rmdirSync(path)
      }
    }
  }))

test('every figure is found in its file, as the kernel writes them', async () => {
  const directory = testDirectory()
  const files = {
    'cgroup.controllers': 'memory pids\n',
    'cpu.stat': 'nice_usec 9\nusage_usec 9007199254740991\nuser_usec 3\n',
    'cpu.pressure': 'some avg10=1.25 avg60=0.50 avg300=99.99 total=123456\n',
    'io.pressure':
      'some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.10 avg60=0.20 avg300=0.30 total=6\n',
    'memory.current': '1000\n',
    'memory.max': 'max\n',
    'memory.stat':
      'inactive_anon 5\nanon 600\nanon_thp 8\ninactive_file 250\npgfault 7\npgmajfault 1\n',
    'memory.swap.current': '0\n',
    'memory.swap.max': '4096\n',
    'pids.current': '3\n',
  }
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
    const [now] = await readGroups([directory], true)
    assert.is(now?.cpuUs, 9007199254740991)
    assert.equal(now?.some('cpu'), { totalUs: 123456, avg10: 1.25, avg60: 0.5, avg300: 99.99 })
    assert.is(now?.full('cpu'), undefined)
    assert.is(now?.some('memory'), undefined)
    assert.equal(now?.full('io'), { totalUs: 6, avg10: 0.1, avg60: 0.2, avg300: 0.3 })
    assert.equal(
      [now?.memoryBytes, now?.memoryLimitBytes, now?.swapBytes, now?.swapLimitBytes, now?.pids],
      [1000, undefined, 0, 4096, 3],
    )
    assert.equal(
      [now?.anonBytes, now?.inactiveFileBytes, now?.pageFaults, now?.majorPageFaults],
      [600, 250, 7, 1],
    )
    assert.is(now?.residentBytes, undefined)
    // Another controller: its files are opened.
    writeFileSync(join(directory, 'memory.pressure'), files['io.pressure'])
    writeFileSync(join(directory, 'cgroup.controllers'), 'cpu memory pids\n')
    assert.is((await readGroups([directory], true))[0]?.some('memory')?.totalUs, 7)
  } finally {
    forgetGroup(directory)
    rmSync(directory, { recursive: true })
  }
})

test('processes are asked where the controllers are missing; those of groups below are not', () =>
  inside(async () => {
    const { memory, pids } = groupStats(group)
    const now = await usage(true)
    assert.is(now.pids, 1)
    if (!memory) assert.ok((now.residentBytes ?? 0) >= 4096)
    assert.not(now.isNested)
    mkdirSync(join(group, 'below'))
    try {
      assert.is((await usage(true)).isNested, !memory || !pids)
    } finally {
      rmdirSync(join(group, 'below'))
    }
  }))

test('a group that is removed is gone, and found again when it is made again', async () => {
  assert.is((await usage()).cpuUs, 0)
  rmdirSync(group)
  assert.is((await usage(true)).cpuUs, undefined)
  mkdirSync(group)
  assert.is((await usage()).cpuUs, 0)
  // Removed and made again between two looks.
  rmdirSync(group)
  mkdirSync(group)
  assert.is((await usage()).cpuUs, 0)
})

test('files that the kernel takes away and gives back are read again', async () => {
  const told = async (): Promise<boolean> => (await usage()).some('cpu') !== undefined
  const isTold = await told()
  assert.is(isTold, groupStats(group).pressure.cpu !== undefined)
  const pressure = join(group, 'cgroup.pressure')
  if (existsSync(pressure)) for (const on of ['0', '1']) writeFileSync(pressure, on)
  assert.is(await told(), isTold)
})

test('files stay open until the group is forgotten, and do not keep it', async () => {
  const before = filesOpen()
  await usage()
  const open = filesOpen()
  assert.ok(open > before)
  await Promise.all([usage(), usage(), usage()])
  assert.is(filesOpen(), open)
  forgetGroup(group)
  assert.is(filesOpen(), before)
})

test('more groups than may stay open are read all the same', async () => {
  const many = Array.from({ length: 700 }, (_, i) => join(group, `many-${i}`))
  const before = filesOpen()
  for (const path of many) mkdirSync(path)
  try {
    for (let look = 0; look < 2; look++) {
      const rows = await readGroups(many, false)
      assert.is(rows.filter(({ cpuUs }) => cpuUs === 0).length, many.length)
      assert.ok(filesOpen() - before <= 4096)
    }
  } finally {
    for (const path of many) {
      forgetGroup(path)
      rmdirSync(path)
    }
  }
  assert.is(filesOpen(), before)
})

test('what is no path is refused', async () => {
  await readGroups([join(group, 'missing/deeper'), '/proc/version'], true).then((rows) =>
    assert.equal(
      rows.map(({ cpuUs, pids }) => [cpuUs, pids]),
      [
        [undefined, undefined],
        [undefined, undefined],
      ],
    ),
  )
  assert.throws(() => forgetGroup('a\0b'), /NUL/)
})

test.run()
