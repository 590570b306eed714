import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()

test('a long line is cut at 16384 bytes into P pieces and an F', async () => {
  const script =
    'head -c 40000 /dev/zero | tr "\\0" a; echo; head -c 16384 /dev/zero | tr "\\0" b; echo; printf open'
  const { session } = await bench.run('long', script.replaceAll('tr ', '/bin/busybox tr '), DEVICES)
  await collect(session)
  assert.equal(
    bench.log('long').map(([, tag, text]) => [tag, text.length]),
    [
      ['P', 16384],
      ['P', 16384],
      ['F', 40000 - 2 * 16384],
      ['F', 16384],
      ['P', 4],
    ],
  )
})

test('an entry has the time in UTC with nanoseconds, and the file the mode 0640', async () => {
  const before = Date.now()
  const { session } = await bench.run('stamp', 'echo x')
  await session.exit
  const [line = ''] = readFileSync(bench.logPath('stamp'), 'utf8').split('\n')
  assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F x$/)
  const at = Date.parse(`${line.slice(0, 23)}Z`)
  assert.ok(at >= before - 1 && at <= Date.now())
  assert.is(statSync(bench.logPath('stamp')).mode & 0o777, 0o640)
})

test('a log that was rotated away is opened anew, and no line is lost', async () => {
  const io = {
    stdin: true,
    stdinOnce: false,
    log: 'cri',
    logPath: bench.logPath('rotate'),
  } as const
  const { monitor, session } = await bench.run('rotate', 'echo one; read x; echo two', { io })
  await eventually('the first line is there', () => bench.log('rotate').length === 1)
  renameSync(bench.logPath('rotate'), `${bench.logPath('rotate')}.1`)
  await monitor.reopenLog('rotate')
  await session.write(Buffer.from('\n'))
  await session.exit
  assert.equal(bench.log('rotate'), [['stdout', 'F', 'two']])
})

test('a full disk stops no container, tears no line, and is told in numbers', async () => {
  const disk = join(bench.directory, 'disk')
  mkdirSync(disk)
  assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]).status, 0)
  try {
    const logPath = join(disk, 'log')
    const io = { stdin: true, stdinOnce: false, log: 'cri', logPath } as const
    const { monitor, session } = await bench.run('full', 'seq 1 20000; read x; echo last; read y', {
      io,
    })
    const read = readUntil(session.output, '20000\n')
    await read
    await eventually('all that cannot be written is counted', async () => {
      const { containers } = await monitor.status()
      return Number(containers['full']?.logDropped) > 10000
    })
    const whole = readFileSync(logPath, 'utf8')
    assert.ok(whole.endsWith('\n'))
    for (const line of whole.split('\n').slice(0, -1)) assert.match(line, /^\S{30} stdout F \d+$/)
    // With room again the next line is whole.
    assert.is(spawnSync('mount', ['-o', 'remount,size=1m', disk]).status, 0)
    await session.write(Buffer.from('\n'))
    await readUntil(session.output, 'last\n')
    await session.write(Buffer.from('\n'))
    await session.exit
    assert.match(readFileSync(logPath, 'utf8'), /\n\S{30} stdout F last\n$/)
  } finally {
    spawnSync('umount', ['-l', disk])
    rmSync(disk, { recursive: true })
  }
})

test("a link at the log's path is not followed", async () => {
  const monitor = await bench.monitor('link')
  const victim = join(bench.directory, 'victim')
  spawnSync('ln', ['-s', victim, bench.logPath('link')])
  try {
    await monitor.create(bench.plan('link', 'echo x'))
    assert.unreachable()
  } catch (error) {
    assert.match((error as Error).message, /log/)
  }
  assert.not(existsSync(victim))
})

test('throughput of the log with 100-byte lines (printed, no claim)', async () => {
  const lines = 4_000_000
  const times = 10
  // A file, because no shell tool makes lines fast enough.
  writeFileSync(join(bench.root, 'tmp/lines'), `${'x'.repeat(99)}\n`.repeat(lines / times))
  const monitor = await bench.monitor('fast')
  const script = `for i in $(seq ${times}); do cat /tmp/lines; done`
  await monitor.create(bench.plan('fast', script))
  const start = performance.now()
  const exit = monitor.wait('fast')
  await monitor.start('fast')
  assert.is((await exit).code, 0)
  const seconds = (performance.now() - start) / 1000
  console.log(`# log: ${((lines * 100) / 1e6 / seconds).toFixed(0)} MB/s of payload`)
  const size = statSync(bench.logPath('fast')).size
  assert.is(size, lines * (100 + '2006-01-02T15:04:05.000000000Z stdout F '.length))
})

test('everything is taken away', () => bench.end())

const DEVICES = {
  devices: [
    { target: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 },
    { target: '/dev/zero', type: 'c', major: 1, minor: 5, mode: 0o666, uid: 0, gid: 0 },
  ],
} as const

async function readUntil(output: AsyncIterable<{ data: Buffer }>, end: string): Promise<void> {
  let text = ''
  for await (const { data } of output) {
    text = (text + data).slice(-100)
    if (text.endsWith(end)) return
  }
}

test.run()
