/** Logs on a disk that is slow or does not answer: a file system that is frozen (fsfreeze(8)) lets no write return. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectMonitor, type Monitor, monitorEnd } from '../../src/container/monitor.ts'
import type { Output } from '../../src/container/session.ts'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs(
  'root',
  'cgroup2',
  'filesystem:ext4',
  'file:/dev/loop-control',
  'program:busybox',
  'program:mkfs.ext4',
  'program:fsfreeze',
)

const bench = new MonitorBench()
const clean = traces({ roots: [bench.directory] })
const MIB = 1024 * 1024
/** A request that a loop answers which nothing holds up; one of so many does on a machine that is busy. */
const ANSWER_MS = 900
const ASKED = 5

/** A disk of its own for the time of `use`, never left frozen. */
async function withDisk(use: (disk: Disk) => Promise<void>): Promise<void> {
  const directory = join(bench.directory, 'disk')
  const image = `${directory}.img`
  writeFileSync(image, '')
  truncateSync(image, 64 * MIB)
  execFileSync('mkfs.ext4', ['-q', image])
  mkdirSync(directory)
  execFileSync('mount', ['-o', 'loop', image, directory])
  const disk: Disk = {
    path: (name) => join(directory, name),
    freeze: () => void execFileSync('fsfreeze', ['-f', directory]),
    thaw: () => void spawnSync('fsfreeze', ['-u', directory], { stdio: 'ignore' }),
  }
  try {
    await use(disk)
    disk.thaw()
    await eventually(
      'the disk is free',
      () => spawnSync('umount', [directory], { stdio: 'ignore' }).status === 0,
    )
  } catch (error) {
    // Of a container that runs on, whose log is open: what failed is to be told, not that.
    disk.thaw()
    spawnSync('umount', ['--lazy', directory], { stdio: 'ignore' })
    throw error
  } finally {
    rmSync(image)
    rmSync(directory, { recursive: true })
  }
}

interface Disk {
  path(name: string): string
  freeze(): void
  thaw(): void
}

const ioAt = (logPath: string) => ({ stdin: true, stdinOnce: false, log: 'cri', logPath }) as const

/** The numbers in a log of `seq`; every line must be whole. */
function numbers(path: string): number[] {
  const text = readFileSync(path, 'utf8')
  assert.ok(text === '' || text.endsWith('\n'))
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, number] = /^\S{30} stdout F (\d+)$/.exec(line) ?? []
      if (number === undefined) assert.unreachable(`no whole line: ${line}`)
      return Number(number)
    })
}

function ascends(list: readonly number[]): boolean {
  return list.every((n, i) => i === 0 || n > (list[i - 1] ?? 0))
}

/** Reads what the container says until it has said that. */
async function said(session: { output: AsyncIterable<Output> }, what: string): Promise<void> {
  let text = ''
  for await (const { data } of session.output) {
    text = (text + data).slice(-200)
    if (text.includes(what)) return
  }
}

async function answers(monitor: Monitor): Promise<Awaited<ReturnType<Monitor['status']>>> {
  const all: number[] = []
  for (;;) {
    const begin = performance.now()
    const status = await monitor.status()
    all.push(performance.now() - begin)
    if (Math.min(...all) < ANSWER_MS) return status
    if (all.length === ASKED) assert.unreachable(`the monitor took ${all.join(', ')} ms`)
  }
}

const dropped = async (monitor: Monitor, id: string): Promise<number> =>
  Number((await answers(monitor)).containers[id]?.logDropped)

test('a disk that hangs blocks neither the container nor the monitor; what does not fit is counted, and no line is torn', async () => {
  await withDisk(async (disk) => {
    const path = disk.path('hangs')
    const lines = 200_000
    const { monitor, session } = await bench.run(
      'hangs',
      `seq 1 100; read x; seq 101 ${lines}; echo written >&2; read x; seq ${lines + 1} ${lines + 5}; read x`,
      { io: ioAt(path) },
    )
    await said(session, '100\n')
    await eventually('the first lines are there', () => numbers(path).length === 100)
    disk.freeze()
    await session.write(Buffer.from('\n'))
    // More than the pipe and the queue hold: without the second's patience it would wait for ever.
    await said(session, 'written\n')
    using other = await connectMonitor(monitor.directory)
    const lost = await dropped(other, 'hangs')
    assert.ok(lost > 0)
    disk.thaw()
    // The line `written` is of stderr, and one that is counted or kept.
    const all = async (): Promise<number> =>
      numbers(path).length + (await dropped(other, 'hangs')) - lines
    // Lines that came while the queue is still full would be counted as well.
    await eventually('all that is kept is written', async () => [0, 1].includes(await all()))
    await session.write(Buffer.from('\n'))
    await eventually('the last ones, too', () => numbers(path).at(-1) === lines + 5)
    const kept = numbers(path)
    assert.ok(ascends(kept))
    assert.equal(
      kept.slice(0, 101),
      Array.from({ length: 101 }, (_, i) => i + 1),
    )
    assert.ok([5, 6].includes(await all()), `${await all()}`)
    await session.write(Buffer.from('\n'))
    await session.exit
  })
})

test('a disk that is slow for less than a second at a time costs no line', async () => {
  await withDisk(async (disk) => {
    const path = disk.path('slow')
    const lines = 300_000
    const { monitor, session } = await bench.run('slow', `seq 1 ${lines}`, { io: ioAt(path) })
    let ended = false
    const exit = session.exit.then((result) => {
      ended = true
      return result
    })
    void said(session, 'never')
    while (!ended) {
      disk.freeze()
      await delay(250)
      disk.thaw()
      await delay(20)
    }
    assert.is((await exit)['code'], 0)
    // All of it is there when the exit is told.
    assert.equal(
      numbers(path),
      Array.from({ length: lines }, (_, i) => i + 1),
    )
    monitor.close()
  })
})

test('a container that ends on a disk that hangs has an end, and its monitor too', async () => {
  await withDisk(async (disk) => {
    const path = disk.path('ends')
    const { monitor, session } = await bench.run('ends', 'echo 1; read x; seq 2 1000; exit 7', {
      io: ioAt(path),
    })
    await said(session, '1\n')
    await eventually('the first line is there', () => numbers(path).length === 1)
    disk.freeze()
    const begin = performance.now()
    await session.write(Buffer.from('\n'))
    assert.is((await session.exit)['code'], 7)
    const took = performance.now() - begin
    assert.ok(took < 6000, `the exit took ${took} ms`)
    assert.is(bench.exitRecord('ends')['code'], 7)
    monitor.close()
    await monitorEnd(monitor.directory)
    disk.thaw()
  })
})

test('other containers of the monitor run on, and their lines come when the disk is back', async () => {
  await withDisk(async (disk) => {
    const path = disk.path('first')
    const { monitor, session } = await bench.run('first', 'echo 1; read x; seq 2 100; read x', {
      io: ioAt(path),
    })
    await said(session, '1\n')
    await monitor.create(
      bench.plan('second', 'seq 1 3000; read x; seq 3001 4000', {
        io: ioAt(bench.logPath('second')),
      }),
    )
    using guest = await connectMonitor(monitor.directory)
    const second = await guest.attach('second', { stdin: true })
    disk.freeze()
    await session.write(Buffer.from('\n'))
    await said(session, '100\n')
    await monitor.start('second')
    await said(second, '3000\n')
    await answers(monitor)
    disk.thaw()
    await second.write(Buffer.from('\n'))
    await second.exit
    assert.equal(
      numbers(bench.logPath('second')),
      Array.from({ length: 4000 }, (_, i) => i + 1),
    )
    await session.write(Buffer.from('\n'))
    await session.exit
    assert.equal(
      numbers(path),
      Array.from({ length: 100 }, (_, i) => i + 1),
    )
  })
})

test('a log whose disk hangs is not opened anew, and nothing is made; afterwards it is, between two lines', async () => {
  await withDisk(async (disk) => {
    const path = disk.path('rotated')
    const { monitor, session } = await bench.run(
      'rotated',
      'echo 1; read x; seq 2 50000; read x; echo 50001; read x',
      {
        io: ioAt(path),
      },
    )
    await said(session, '1\n')
    await eventually('the first line is there', () => numbers(path).length === 1)
    renameSync(path, `${path}.1`)
    disk.freeze()
    await session.write(Buffer.from('\n'))
    await said(session, '50000\n')
    using other = await connectMonitor(monitor.directory)
    await eventually('the disk is taken for one that hangs', async () => {
      await answers(other)
      try {
        // Before that it would be opened, which a frozen disk does not let happen: so only asked when a second has passed.
        await delay(1500)
        await other.reopenLog('rotated')
      } catch (error) {
        return /does not answer|temporarily unavailable/i.test((error as Error).message)
      }
      return false
    })
    assert.not(existsSync(path))
    disk.thaw()
    await eventually('it can be opened', async () => {
      await other.reopenLog('rotated')
      return true
    })
    await session.write(Buffer.from('\n'))
    await said(session, '50001\n')
    await eventually('the new file has the last', () => numbers(path).at(-1) === 50001)
    const all = [...numbers(`${path}.1`), ...numbers(path)]
    assert.ok(ascends(all))
    assert.is(all.length + (await dropped(other, 'rotated')), 50001)
    await session.write(Buffer.from('\n'))
    await session.exit
  })
})

test('nothing is left behind', async () => {
  await bench.end()
  await clean()
})

test.run()
