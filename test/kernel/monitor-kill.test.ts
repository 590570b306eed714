import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isMonitorAlive } from '../../src/container/monitor.ts'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const CLIENT = fileURLToPath(new URL('../lib/monitor-client.js', import.meta.url))
const LINES = 200_000

const bench = new MonitorBench()

test('kill -9 of clients in the middle of everything costs no line of the log and no exit code', async () => {
  const monitor = await bench.monitor('kill')
  await monitor.create(
    bench.plan('kill', `seq 1 ${LINES}; exit 21`, {
      io: { stdin: true, stdinOnce: false, log: 'cri', logPath: bench.logPath('kill') },
    }),
  )
  const clients = [1, 2, 3].map(() =>
    spawn(process.execPath, [CLIENT, monitor.directory, 'kill'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  )
  const said = clients.map(() => '')
  clients.forEach((client, i) => {
    client.stdout.on('data', (bytes: Buffer) => {
      said[i] += bytes.toString()
    })
  })
  await eventually('all are attached', () => said.every((text) => text.includes('attached')))
  // Each stops reading after its first output and so holds the container back, until it is killed.
  const exit = monitor.wait('kill')
  await monitor.start('kill')
  await eventually('all have output', () => said.every((text) => text.includes('reading')))
  for (const client of clients) client.kill('SIGKILL')
  assert.is((await exit).code, 21)
  assert.is(bench.exitRecord('kill')['code'], 21)
  const lines = bench.log('kill')
  assert.is(lines.length, LINES)
  for (const [i, [, , text]] of lines.entries()) assert.is(text, String(i + 1))
})

test('kill -9 of the monitor ends the lock, so that everyone knows', async () => {
  const monitor = await bench.monitor('dies')
  const { pid } = await monitor.create(bench.plan('dies', 'sleep 1000'))
  await monitor.start('dies')
  assert.ok(isMonitorAlive(monitor.directory))
  const lost = monitor.wait('dies').catch((error: { code: string }) => error.code)
  process.kill((await monitor.status()).monitor, 'SIGKILL')
  assert.is(await lost, 'UNAVAILABLE')
  await eventually('the lock is free', () => !isMonitorAlive(monitor.directory))
  process.kill(pid, 'SIGKILL')
})

test('everything is taken away', () => bench.end())

test.run()
