import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const MONITORS = 20
const FIRST_KIB_MAX = 300
const FURTHER_KIB_MAX = 64

const bench = new MonitorBench()
const pids: number[] = []

test('of 20 monitors none takes more than 300 KiB, after output and once idle', async () => {
  for (let i = 0; i < MONITORS; i++) {
    const monitor = await bench.monitor(`m${i}`)
    await monitor.create(bench.plan(`c${i}`, 'seq 1 20000; sleep 1000'))
    await monitor.start(`c${i}`)
    pids.push((await monitor.status()).monitor)
    monitor.close()
  }
  let most = 0
  await eventually('all are small', () => {
    most = Math.max(...pids.map(pssKib))
    return most <= FIRST_KIB_MAX
  })
  await idlePssKib(pids[0] ?? 0)
  console.log(`# ${MONITORS} monitors: at most ${Math.max(...pids.map(pssKib))} KiB each (PSS)`)
})

test('a further container in a monitor takes at most 64 KiB more', async () => {
  const monitor = await bench.monitor('pod')
  const { monitor: pid } = await monitor.status()
  const measured: number[] = []
  for (let i = 0; i < 11; i++) {
    await monitor.create(bench.plan(`p${i}`, 'seq 1 20000; sleep 1000'))
    await monitor.start(`p${i}`)
    if (i === 0 || i === 10) measured.push(await idlePssKib(pid))
  }
  const [one = 0, eleven = 0] = measured
  console.log(`# one container ${one} KiB, eleven ${eleven} KiB (PSS)`)
  assert.ok((eleven - one) / 10 <= FURTHER_KIB_MAX)
})

test('everything is taken away', async () => {
  for (const pid of pids) killContainersOf(pid)
  await bench.end()
})

function pssKib(pid: number): number {
  const [, kib] = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')) ?? []
  return Number(kib)
}

/** The smallest value within the time in which an idle monitor gives its buffers back. */
async function idlePssKib(pid: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  const end = performance.now() + 2500
  await eventually('it has been idle', () => {
    least = Math.min(least, pssKib(pid))
    return performance.now() > end
  })
  return least
}

function killContainersOf(pid: number): void {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  for (const child of children.split(' ').filter(Boolean)) process.kill(Number(child), 'SIGKILL')
}

test.run()
