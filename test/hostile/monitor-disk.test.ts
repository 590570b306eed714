/** Containers that fill the disk of their log, or throw their stdio away: they harm themselves only. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:mount')

const DISK_BYTES = 1024 * 1024
const LINES = 100_000

const bench = new MonitorBench()
const disk = join(bench.directory, 'disk')
mkdirSync(disk)
assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', disk]).status, 0)

const lines = (name: string): number =>
  readFileSync(join(disk, name), 'utf8').split('\n').length - 1
const onDisk = (name: string) => ({
  io: { stdin: true, stdinOnce: false, log: 'cri' as const, logPath: join(disk, name) },
})

test('a container that fills the disk of its log runs on; the others of its monitor are logged', async () => {
  const monitor = await bench.monitor('full')
  await monitor.create(
    bench.plan('hog', 'yes 0123456789abcdef | head -n 200000; exit 3', onDisk('hog.log')),
  )
  await monitor.create(bench.plan('other', 'seq 1 50000; exit 4'))
  const [hog, other] = [monitor.wait('hog'), monitor.wait('other')]
  await monitor.start('hog')
  await monitor.start('other')
  assert.is((await hog).code, 3)
  assert.is((await other).code, 4)
  assert.is(bench.log('other').length, 50_000)
  const log = readFileSync(join(disk, 'hog.log'), 'utf8')
  assert.ok(statSync(join(disk, 'hog.log')).size <= DISK_BYTES)
  assert.ok(log.endsWith('\n'), 'the last line is whole')
  for (const line of log.split('\n').slice(0, -1)) {
    if (!/^\S+ stdout F 0123456789abcdef$/.test(line)) assert.unreachable(line)
  }
})

test('what was lost is counted, and logging goes on when there is room again', async () => {
  const { monitor, session } = await bench.run(
    'again',
    `yes 0123456789abcdef | head -n ${LINES}; read x; echo after; exit 5`,
    onDisk('again.log'),
  )
  const reading = (async () => {
    for await (const _ of session.output);
  })()
  const dropped = await eventually('every line is in the log or counted', async () => {
    const { containers } = await monitor.status()
    const count = Number(containers['again']?.logDropped)
    return count > 0 && count + lines('again.log') === LINES && count
  })
  rmSync(join(disk, 'hog.log'))
  await session.write(Buffer.from('\n'))
  await reading
  assert.is((await session.exit)['code'], 5)
  const log = readFileSync(join(disk, 'again.log'), 'utf8')
  assert.match(log, /stdout F after\n$/)
  assert.is(lines('again.log') - 1 + dropped, LINES)
})

test('an exit record that finds no room is written when there is some', async () => {
  const record = join(disk, 'exit.json')
  rmSync(join(disk, 'again.log'), { force: true })
  const { session } = await bench.run('record', 'yes x | head -c 4000000; exit 6', {
    ...onDisk('record.log'),
    exit: { recordPath: record, command: [] },
  })
  for await (const _ of session.output);
  assert.is((await session.exit)['code'], 6)
  // The monitor still has it open: a removal alone would free nothing.
  truncateSync(join(disk, 'record.log'))
  await eventually('the record is there', () => existsSync(record))
  assert.is(JSON.parse(readFileSync(record, 'utf8')).code, 6)
})

test('a flood on both streams, closed stdio, and children that take the pipe with them end with their container', async () => {
  const scripts = {
    both: 'yes out & yes err >&2 & sleep 0.3; exit 11',
    shut: 'exec <&- >&- 2>&-; sleep 0.2; exit 12',
    away: '(setsid yes gone &); (setsid sleep 1000 &); exit 13',
  }
  const monitor = await bench.monitor('stdio')
  const waits: [string, Promise<{ code: number }>][] = []
  for (const [id, script] of Object.entries(scripts)) {
    await monitor.create(bench.plan(id, script, { namespaces: [{ type: 'mount' }] }))
    waits.push([id, monitor.wait(id)])
    await monitor.start(id)
  }
  const codes = await Promise.all(waits.map(async ([, wait]) => (await wait).code))
  assert.equal(codes, [11, 12, 13])
  for (const [stream, , text] of bench.log('both').slice(0, -2)) {
    if (text !== (stream === 'stdout' ? 'out' : 'err')) assert.unreachable(`${stream}: ${text}`)
  }
  for (const id of Object.keys(scripts)) assert.not(existsSync(bench.cgroupOf(id)))
})

test('everything is taken away', async () => {
  assert.is(spawnSync('umount', [disk]).status, 0)
  await bench.end()
})

test.run()
