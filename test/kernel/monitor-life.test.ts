import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../src/base/fault.ts'
import { connectMonitor, isMonitorAlive } from '../../src/container/monitor.ts'
import { eventually } from '../lib/eventually.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()

test('stdout, stderr, the log and the exit code of a container are what its program made of them', async () => {
  const { session } = await bench.run('plain', 'echo out; echo err >&2; printf end; exit 7')
  assert.match(await collect(session), /out\n/)
  const exit = await session.exit
  assert.is(exit['code'], 7)
  assert.equal(bench.exitRecord('plain'), exit)
  const entries = bench.log('plain')
  assert.equal(
    entries.filter(([stream]) => stream === 'stdout'),
    [
      ['stdout', 'F', 'out'],
      ['stdout', 'P', 'end'],
    ],
  )
  assert.equal(
    entries.filter(([stream]) => stream === 'stderr'),
    [['stderr', 'F', 'err']],
  )
})

test('a monitor ends with its last container and leaves neither cgroup nor file', async () => {
  const { monitor, session } = await bench.run('ends', 'exit 0')
  await session.exit
  await eventually('the monitor has ended', () => !isMonitorAlive(monitor.directory))
  for (const name of ['ctl', 'alive', 'status.json'])
    assert.not(existsSync(join(monitor.directory, name)))
  assert.not(existsSync(bench.cgroupOf('ends')))
})

test('status.json says what runs', async () => {
  const monitor = await bench.monitor('status')
  const { pid } = await monitor.create(bench.plan('status', 'sleep 1000'))
  const read = () =>
    JSON.parse(readFileSync(join(monitor.directory, 'status.json'), 'utf8')).containers.status
  await eventually('it is created', () => read()?.state === 'created')
  await monitor.start('status')
  await eventually('it runs', () => read()?.state === 'running')
  assert.is(read().pid, pid)
  assert.is((await monitor.status()).containers['status']?.pid, pid)
  const exit = monitor.wait('status')
  await monitor.signal('status', { signal: 9 })
  assert.is((await exit).code, 137)
  assert.is((await exit).signal, 9)
})

test('a program that is not there is 127, one that cannot be executed 126', async () => {
  for (const [id, args, code] of [
    ['missing', '/bin/no', 127],
    ['denied', '/etc', 126],
  ] as const) {
    const monitor = await bench.monitor(id)
    await monitor.create(bench.plan(id, '', { process: { args: [args] } }))
    try {
      await monitor.start(id)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, Fault)
      assert.is((error as Fault).exit, code)
    }
    assert.is(bench.exitRecord(id)['code'], code)
  }
})

test('stdin arrives whole and its end too', async () => {
  const { session } = await bench.run('stdin', 'cat', {
    io: { stdin: true, stdinOnce: true, log: 'none', logPath: '' },
  })
  const text = 'x'.repeat(300_000)
  const collected = collect(session)
  await session.write(Buffer.from(text))
  session.closeInput()
  assert.is((await collected).length, text.length)
  assert.is((await session.exit)['code'], 0)
})

test('a process that does not read its stdin holds back its client only', async () => {
  const { monitor, session } = await bench.run('deaf', 'sleep 1000', {
    io: { stdin: true, stdinOnce: true, log: 'none', logPath: '' },
  })
  session.write(Buffer.alloc(4 * 1024 * 1024)).catch(() => {})
  const other = await connectMonitor(monitor.directory)
  await other.signal('deaf', { signal: 9 })
  assert.is((await session.exit)['code'], 137)
  other.close()
})

test('a terminal has its size, takes a new one, echoes and hangs up', async () => {
  const io = { stdin: true, stdinOnce: true, log: 'none', logPath: '' } as const
  const script = 'stty size; read x; stty size; echo got $x; exit 3'
  const { session } = await bench.run('tty', script, {
    io,
    process: { terminal: true, rows: 20, columns: 60 },
  })
  let text = ''
  for await (const { data } of session.output) {
    text += data
    if (/20 60\r\n$/.test(text)) {
      session.resize(30, 90)
      await session.write(Buffer.from('word\n'))
    }
  }
  assert.match(text, /20 60\r\n[\s\S]*30 90\r\ngot word\r\n$/)
  assert.is((await session.exit)['code'], 3)
})

test('two clients see the same output; one that is gone disturbs nothing', async () => {
  const { monitor, session } = await bench.run('two', 'read x; echo a; read y; echo b', {
    io: { stdin: true, stdinOnce: false, log: 'cri', logPath: bench.logPath('two') },
  })
  const other = await connectMonitor(monitor.directory)
  const second = await other.attach('two')
  const lost = await connectMonitor(monitor.directory)
  await lost.attach('two', { stdin: true })
  lost.close()
  const both = Promise.all([collect(session), collect(second)])
  await session.write(Buffer.from('1\n2\n'))
  assert.equal(await both, ['a\nb\n', 'a\nb\n'])
  other.close()
})

test('what the first process leaves behind in the host PID namespace dies with it', async () => {
  const { session } = await bench.run('orphans', '(setsid sleep 1000 &) ; sleep 1000 & echo done', {
    namespaces: [{ type: 'mount' }],
  })
  assert.is(await collect(session), 'done\n')
  assert.is((await session.exit)['code'], 0)
  assert.not(existsSync(bench.cgroupOf('orphans')))
})

test('a monitor holds several containers; a stopped one can be removed and made again', async () => {
  const monitor = await bench.monitor('pod')
  await monitor.create(bench.plan('one', 'sleep 1000'))
  await monitor.create(bench.plan('two2', 'exit 4'))
  await monitor.start('one')
  const exit = monitor.wait('two2')
  await monitor.start('two2')
  assert.is((await exit).code, 4)
  await monitor.remove('two2')
  const { pid } = await monitor.create(bench.plan('two2', 'exit 5'))
  assert.ok(pid > 0)
  await monitor.start('two2')
  assert.is((await monitor.wait('two2')).code, 5)
  await monitor.signal('one', { signal: 9 })
  assert.is((await monitor.wait('one').catch(() => ({ code: 137 }))).code, 137)
})

test('a request for what is not there is refused by name', async () => {
  const monitor = await bench.monitor('refuse')
  for (const request of [
    () => monitor.start('none'),
    () => monitor.create('/nonexistent'),
    () => monitor.wait('none'),
  ]) {
    try {
      await request()
      assert.unreachable()
    } catch (error) {
      assert.is((error as Fault).code, 'NOT_FOUND')
    }
  }
})

test('everything is taken away', () => bench.end())

test.run()
