import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectMonitor } from '../../src/container/monitor.ts'
import { eventually } from '../lib/eventually.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const bench = new MonitorBench()

test('on-failure:2 starts again twice, and the clients stay attached', async () => {
  const { session } = await bench.run('twice', 'echo run; exit 3', {
    restart: { policy: 'on-failure', maximumRetries: 2 },
  })
  assert.is(await collect(session), 'run\nrun\nrun\n')
  const exit = await session.exit
  assert.is(exit['code'], 3)
  assert.is(exit['restarts'], 2)
})

test('on-failure leaves a success alone', async () => {
  const { session } = await bench.run('success', 'exit 0', {
    restart: { policy: 'on-failure', maximumRetries: 0 },
  })
  assert.is((await session.exit)['restarts'], 0)
})

test('a stop that was asked for is final, while it runs and while it waits', async () => {
  const policy = { restart: { policy: 'always', maximumRetries: 0 } } as const
  const running = await bench.run('stop', 'sleep 1000', policy)
  await running.monitor.signal('stop', { signal: 9, stop: true })
  assert.is((await running.session.exit)['code'], 137)
  const waiting = await bench.run('stop2', 'exit 1', policy)
  await eventually(
    'it waits',
    async () => (await waiting.monitor.status()).containers['stop2']?.restarting,
  )
  await waiting.monitor.signal('stop2', { signal: 15, stop: true })
  assert.is((await waiting.session.exit)['code'], 1)
})

test('a kill that is no stop is followed by a restart; an update ends the policy', async () => {
  const { monitor, session } = await bench.run('killed', 'sleep 1000', {
    restart: { policy: 'unless-stopped', maximumRetries: 0 },
  })
  const first = (await monitor.status()).containers['killed']?.pid
  await monitor.signal('killed', { signal: 9 })
  await eventually('it runs again', async () => {
    const now = (await monitor.status()).containers['killed']
    return now?.state === 'running' && now.pid !== 0 && now.pid !== first && now.restarts === 1
  })
  assert.not(existsSync(bench.exitPath('killed')))
  await monitor.update('killed', { policy: 'no', maximumRetries: 0 })
  await monitor.signal('killed', { signal: 9 })
  assert.is((await session.exit)['restarts'], 1)
})

test('a container whose whole cgroup was killed starts again in it, and takes an exec', async () => {
  // Newer kernels kill whatever is cloned into a cgroup that cgroup.kill was used on.
  const { monitor, session } = await bench.run('group', 'echo run; sleep 1000', {
    restart: { policy: 'on-failure', maximumRetries: 2 },
  })
  const runs = (): number => bench.log('group').length
  for (const restarts of [1, 2]) {
    await eventually('it has said so', () => runs() === restarts)
    await monitor.signal('group', { signal: 9, all: true })
    await eventually('it runs again', async () => {
      const now = (await monitor.status()).containers['group']
      return now?.state === 'running' && now.pid !== 0 && now.restarts === restarts
    })
    const { pid = 0 } = (await monitor.status()).containers['group'] ?? {}
    assert.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), /^0::.*\/group$/m)
  }
  await eventually('it has said so', () => runs() === 3)
  using another = await connectMonitor(monitor.directory)
  const exec = await another.exec(bench.exec('group', 'echo inside'))
  assert.is(await collect(exec.session), 'inside\n')
  await monitor.signal('group', { signal: 9, stop: true })
  assert.is(await collect(session), 'run\nrun\nrun\n')
  assert.is((await session.exit)['restarts'], 2)
})

test('the exit command runs after the record is written, with a clean environment', async () => {
  const out = join(bench.directory, 'command.out')
  const recordPath = bench.exitPath('command')
  const script = `cat ${recordPath} > ${out}.tmp; env >> ${out}.tmp; mv ${out}.tmp ${out}`
  const { session } = await bench.run('command', 'exit 6', {
    exit: { recordPath, command: ['/bin/sh', '-c', script] },
  })
  await session.exit
  const text = await eventually('it has run', () => existsSync(out) && readFileSync(out, 'utf8'))
  assert.match(text, /"code":6/)
  assert.not.match(text, /HOME=/)
})

test('everything is taken away', () => bench.end())

test.run()
