import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectMonitor } from '../../src/container/monitor.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()

test('a client that does not read holds back its container and no other of the same monitor', async () => {
  const monitor = await bench.monitor('slow')
  await monitor.create(bench.plan('flood', 'yes flood'))
  await monitor.create(bench.plan('other', 'seq 1 100000'))
  const deaf = await connectMonitor(monitor.directory)
  await deaf.attach('flood')
  await monitor.start('flood')
  const exit = monitor.wait('other')
  await monitor.start('other')
  assert.is((await exit).code, 0)
  assert.is(bench.log('other').length, 100000)
  deaf.close()
  await monitor.signal('flood', { signal: 9 })
})

test('every byte reaches a client that reads slowly', async () => {
  const { session } = await bench.run('bytes', 'seq 1 1000000', {
    io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
  })
  const text = await collect(session)
  assert.is(text.split('\n').length, 1000001)
  assert.ok(text.endsWith('999999\n1000000\n'))
  assert.is((await session.exit)['code'], 0)
})

test('a container that closes its stdio goes on, and its exit is seen', async () => {
  const { session } = await bench.run('closed', 'exec <&- >&- 2>&-; sleep 0.2; exit 12')
  assert.is(await collect(session), '')
  assert.is((await session.exit)['code'], 12)
})

test('a terminal that is closed and opened again still works', async () => {
  const script = 'echo one; exec <&- >&- 2>&-; sleep 0.3; exec >/dev/pts/0; echo two'
  const { session } = await bench.run('reopen', script, { process: { terminal: true } })
  assert.is(await collect(session), 'one\r\ntwo\r\n')
})

test('double forks that flood the pipe end with the container', async () => {
  const script = 'for i in 1 2 3 4 5 6 7 8; do (setsid yes $i &) ; done; exit 5'
  const { session } = await bench.run('forks', script, { namespaces: [{ type: 'mount' }] })
  await collect(session)
  assert.is((await session.exit)['code'], 5)
  assert.not(existsSync(bench.cgroupOf('forks')))
})

test('clients that send rubbish, or leave in the middle of it, lose their own connection only', async () => {
  const { monitor, session } = await bench.run('rubbish', 'read x; exit 8', {
    io: { stdin: true, stdinOnce: false, log: 'none', logPath: '' },
  })
  const frames = [
    Buffer.from([255, 255, 255, 255, 1]),
    Buffer.from([10, 0, 0, 0, 4, 1, 2]),
    Buffer.from([2, 0, 0, 0, 4, 9, 9]),
    Buffer.from([8, 0, 0, 0, 4, 1, 0, 0, 0, 255, 255, 255, 127]),
    Buffer.from([0, 0, 0, 0, 77]),
    Buffer.alloc(200_000, 1),
  ]
  for (const frame of frames) {
    const socket = connect({ path: join(monitor.directory, 'ctl') })
    socket.on('error', () => {})
    await new Promise<void>((resolve) => socket.once('connect', resolve))
    await new Promise<void>((resolve) => socket.write(frame, () => resolve()))
    socket.destroy()
  }
  await session.write(Buffer.from('\n'))
  assert.is((await session.exit)['code'], 8)
})

test('everything is taken away', () => bench.end())

test.run()
