import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Fault } from '../../src/base/fault.ts'
import { connectMonitor } from '../../src/container/monitor.ts'
import { eventually } from '../lib/eventually.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()
let directory = ''

test('the container of these claims runs', async () => {
  const monitor = await bench.monitor('c')
  directory = monitor.directory
  await monitor.create(bench.plan('c', 'sleep 1000 & wait', { reaper: true }))
  await monitor.start('c')
})

test('an exec has its own output, exit code and id', async () => {
  using monitor = await connectMonitor(directory)
  const { pid, session } = await monitor.exec({
    ...bench.exec('c', 'echo out; echo err >&2; exit 9'),
    execId: 'e1',
  })
  assert.ok(pid > 0)
  const exit = session.exit
  let [out, err] = ['', '']
  for await (const { stream, data } of session.output) {
    if (stream === 'stdout') out += data
    else err += data
  }
  assert.equal([out, err], ['out\n', 'err\n'])
  assert.is((await exit).code, 9)
  assert.is((await exit).execId, 'e1')
})

test('an exec runs in the namespaces of the container', async () => {
  using monitor = await connectMonitor(directory)
  const { session } = await monitor.exec(
    bench.exec('c', 'cat /proc/1/comm; ls /proc | /bin/busybox grep -c "^[0-9]"'),
  )
  assert.match(await collect(session), /^berth-init|^sh|^berth/)
})

test('stdin goes to an exec, and its end', async () => {
  using monitor = await connectMonitor(directory)
  const { session } = await monitor.exec(bench.exec('c', 'cat', { stdin: true }))
  const output = collect(session)
  await session.write(Buffer.from('hello'))
  session.closeInput()
  assert.is(await output, 'hello')
})

test('an exec with a terminal has one', async () => {
  using monitor = await connectMonitor(directory)
  const { session } = await monitor.exec(
    bench.exec('c', 'stty size; [ -t 0 ] && echo tty', { terminal: true, rows: 11, columns: 22 }),
  )
  assert.is(await collect(session), '11 22\r\ntty\r\n')
})

test('a program that is not there is a Fault with exit 127', async () => {
  using monitor = await connectMonitor(directory)
  try {
    await monitor.exec(bench.exec('c', '', { args: ['/no'] }))
    assert.unreachable()
  } catch (error) {
    assert.is((error as Fault).exit, 127)
  }
  // The connection is as good as before.
  const { session } = await monitor.exec(bench.exec('c', 'echo ok'))
  assert.is(await collect(session), 'ok\n')
})

test('a timeout kills the whole tree of an exec, however it forked', async () => {
  using monitor = await connectMonitor(directory)
  const script = '(setsid sh -c "echo \\$\\$; exec sleep 1000" &); sleep 1000'
  const { session } = await monitor.exec(bench.exec('c', script, { timeoutMs: 300 }))
  const output = await collect(session)
  const exit = await session.exit
  assert.is(exit.timedOut, true)
  assert.is(exit.code, 137)
  const { session: look } = await connectMonitor(directory).then((m) =>
    m.exec(
      bench.exec(
        'c',
        `[ -e /proc/${output.trim()} ] && cat /proc/${output.trim()}/stat | /bin/busybox cut -d" " -f3; echo`,
      ),
    ),
  )
  assert.match(await collect(look), /^Z?\n/)
  look.close()
  await eventually('its cgroup is gone', () => !existsSync(`${bench.cgroupOf('c')}/berth-exec-1`))
})

test('a background child that keeps the output open does not hold up the end of an exec', async () => {
  using monitor = await connectMonitor(directory)
  const { session } = await monitor.exec(bench.exec('c', 'sleep 1000 & echo started'))
  assert.is(await collect(session), 'started\n')
  assert.is((await session.exit).code, 0)
})

test('a timeout ends an exec whose children hold its output, and tells it at once', async () => {
  using monitor = await connectMonitor(directory)
  const begin = performance.now()
  const script = 'trap "" TERM HUP INT; sleep 1000 & setsid sleep 1000 & while :; do sleep 1; done'
  const { session } = await monitor.exec(bench.exec('c', script, { timeoutMs: 300 }))
  assert.is(await collect(session), '')
  assert.is((await session.exit).timedOut, true)
  assert.ok(performance.now() - begin < 5000)
})

test('an exec that writes without end is over when its time is, though nothing of it is wanted', async () => {
  using monitor = await connectMonitor(directory)
  const { session } = await monitor.exec(bench.exec('c', 'yes', { timeoutMs: 1500 }))
  for await (const { data } of session.output) {
    assert.ok(data.length > 0)
    break
  }
  session.discard()
  session.discard()
  let more = 0
  for await (const { data } of session.output) more += data.length
  assert.is(more, 0)
  assert.is((await session.exit).timedOut, true)
})

test('a program whose output nobody wants runs to its end', async () => {
  using monitor = await connectMonitor(directory)
  // A file, because no shell tool writes fast enough.
  const bytes = 40_000_000
  const times = 10
  writeFileSync(join(bench.root, 'tmp/bytes'), Buffer.alloc(bytes))
  const script = `for i in $(seq ${times}); do cat /tmp/bytes; done; exit 7`
  const { session } = await monitor.exec(bench.exec('c', script))
  const begin = performance.now()
  session.discard()
  assert.is((await session.exit).code, 7)
  console.log(
    `# ${((times * bytes) / 1e6 / ((performance.now() - begin) / 1000)).toFixed(0)} MB/s thrown away`,
  )
  const { session: next } = await connectMonitor(directory).then((m) =>
    m.exec(bench.exec('c', 'echo alive')),
  )
  assert.is(await collect(next), 'alive\n')
  next.close()
})

test('a detached exec tells nobody of its end', async () => {
  using monitor = await connectMonitor(directory)
  const { pid } = await monitor.execDetached(bench.exec('c', 'echo nobody; sleep 1000'))
  assert.ok(existsSync(`/proc/${pid}`))
})

test('a client that dies leaves its exec running', async () => {
  const monitor = await connectMonitor(directory)
  const { pid, session } = await monitor.exec(bench.exec('c', 'while :; do echo flood; done'))
  for await (const _ of session.output) break
  monitor.close()
  using other = await connectMonitor(directory)
  await other.status()
  assert.ok(existsSync(`/proc/${pid}`))
  process.kill(pid, 'SIGKILL')
})

test('a client that dies takes along an exec that is its own, whole', async () => {
  const monitor = await connectMonitor(directory)
  const script = '(setsid sh -c "exec sleep 1000" &); echo begun; sleep 1000'
  const { pid, session } = await monitor.exec(bench.exec('c', script, { owned: true }))
  for await (const _ of session.output) break
  const groups = () =>
    readdirSync(bench.cgroupOf('c')).filter((name) => name.startsWith('berth-exec-'))
  assert.is(groups().length, 1)
  monitor.close()
  await eventually('nothing of it is left', () => groups().length === 0)
  assert.not(existsSync(`/proc/${pid}`))
})

test('an exec whose program has not run when its time is over, or its client gone', async () => {
  const freeze = (value: string) => writeFileSync(join(bench.cgroupOf('c'), 'cgroup.freeze'), value)
  freeze('1')
  try {
    using monitor = await connectMonitor(directory)
    const late = monitor.exec(bench.exec('c', 'echo no', { timeoutMs: 300 }))
    assert.is(((await late.catch((error) => error)) as Fault).code, 'DEADLINE_EXCEEDED')
    const client = await connectMonitor(directory)
    const before = new Set(bench.pidsOf('c'))
    const asked = client.exec(bench.exec('c', 'echo no', { owned: true })).catch(() => {})
    await eventually('it is being made', () => bench.pidsOf('c').some((pid) => !before.has(pid)))
    client.close()
    await asked
    await eventually('it is gone', () => bench.pidsOf('c').every((pid) => before.has(pid)))
  } finally {
    freeze('0')
  }
})

test('everything is taken away', () => bench.end())

test.run()
