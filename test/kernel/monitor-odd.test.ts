/** What a monitor does when something outside of it is not as it should be. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectMonitor, isMonitorAlive } from '../../src/container/monitor.ts'
import { Message } from '../../src/wire/message.ts'
import { TAG } from '../../src/wire/tags.ts'
import { eventually } from '../lib/eventually.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()

test('a container that hangs while it is made can be killed, and is then as if it had never been', async () => {
  const monitor = await bench.monitor('hang')
  const plan = bench.plan('hang', 'true')
  // Whatever is born in a frozen cgroup stands still: a stuck file system would do the same.
  writeFileSync(join(bench.cgroupOf('hang'), 'cgroup.freeze'), '1')
  const made = assertRejects(monitor.create(plan), /killed while it was being made/)
  using other = await connectMonitor(monitor.directory)
  await eventually(
    'it hangs',
    async () => (await other.status()).containers['hang']?.state === 'creating',
  )
  await assertRejects(other.signal('hang', { signal: 15 }), /not running/)
  await other.signal('hang', { signal: 9, all: true, stop: true })
  await made
  await assertRejects(other.signal('hang', { signal: 9 }), /no such container/)
})

test('an exit record that cannot be written is written later, and the monitor stays until then', async () => {
  const place = join(bench.directory, 'place')
  writeFileSync(place, 'no directory')
  const recordPath = join(place, 'exit')
  const { monitor, session } = await bench.run('owed', 'exit 5', {
    exit: { recordPath, command: [] },
  })
  assert.is((await session.exit)['code'], 5)
  session.close()
  monitor.close()
  assert.ok(isMonitorAlive(monitor.directory))
  rmSync(place)
  mkdirSync(place)
  await eventually('the record is there', () => existsSync(recordPath), { withinMs: 5000 })
  assert.is(JSON.parse(readFileSync(recordPath, 'utf8')).code, 5)
  await eventually('the monitor has ended', () => !isMonitorAlive(monitor.directory))
})

test('a directory whose path is longer than a socket may have is as good as any', async () => {
  const { monitor, session } = await bench.run('long'.repeat(40), 'echo here')
  assert.ok(Buffer.byteLength(monitor.directory) > 150)
  assert.is(await collect(session), 'here\n')
})

test('cgroups of execs whose children lived on are gone with the next exec', async () => {
  const { monitor } = await bench.run('probes', 'sleep 1000')
  const groups = () =>
    readdirSync(bench.cgroupOf('probes')).filter((name) => name.startsWith('berth-exec-'))
  for (let i = 0; i < 3; i++) {
    using client = await connectMonitor(monitor.directory)
    const { session } = await client.exec(
      bench.exec('probes', 'sleep 1000 & echo', { timeoutMs: 60_000 }),
    )
    await collect(session)
    assert.is((await session.exit).code, 0)
  }
  assert.is(groups().length, 3)
  for (const group of groups()) {
    const path = join(bench.cgroupOf('probes'), group)
    writeFileSync(join(path, 'cgroup.kill'), '1')
    await eventually('its child is gone', () =>
      readFileSync(join(path, 'cgroup.events'), 'utf8').includes('populated 0'),
    )
  }
  using client = await connectMonitor(monitor.directory)
  const { session } = await client.exec(bench.exec('probes', 'echo last', { timeoutMs: 60_000 }))
  assert.is(await collect(session), 'last\n')
  await session.exit
  await eventually('no cgroup is left', () => groups().length === 0)
  await client.signal('probes', { signal: 9 })
})

test('a plan that says a thing twice is refused', async () => {
  const monitor = await bench.monitor('twice')
  const path = bench.plan('twice', 'true')
  const plan = readFileSync(path)
  for (const [tag, message] of [
    [TAG.containerRoot, /two roots/],
    [TAG.containerProcess, /two processes/],
  ] as const) {
    const more = new Message()
    // More texts than the first one had room for.
    const many = new Message()
    for (let i = 0; i < 50; i++) many.text(TAG.rootLower, '/tmp')
    more.bytes(tag, many.encode())
    writeFileSync(path, Buffer.concat([plan, more.encode()]))
    await assertRejects(monitor.create(path), message)
  }
})

async function assertRejects(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (failure: Error) => failure,
  )
  assert.match(String(error), message)
}

test('everything is taken away', () => bench.end())

test.run()
