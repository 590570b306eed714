/** ExecSync with programs that write too much, and clients that go away. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { groupPids } from '../../src/engine/processes.ts'
import { CriDaemon, failure, runContainer, runPod } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const DEADLINE_EXCEEDED = 4
const MIB = 1024 * 1024
/** What the kubelet takes of one message. */
const MESSAGE_BYTES_MAX = 16 * MIB

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

test('of an output without end the beginning is told, in a message that the kubelet takes', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { stdout, stderr, exitCode } = await daemon.call('ExecSync', {
    containerId,
    // Numbered lines of both streams, more than 16 MiB of each.
    cmd: ['probe', 'lines', '1000000', '0', 'both'],
  })
  assert.is(exitCode, 0)
  const bytes = stdout.length + stderr.length
  assert.ok(bytes > MESSAGE_BYTES_MAX - MIB && bytes < MESSAGE_BYTES_MAX, String(bytes))
})

test('a client that goes away leaves no call behind, and no program', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { code } = await failure(
    daemon.call('ExecSync', { containerId, cmd: ['probe', 'sleep', '1000'] }, { deadlineMs: 1000 }),
  )
  assert.is(code, DEADLINE_EXCEEDED)
  await eventually('the call has ended', () => /method=ExecSync .*code=CANCELLED/.test(daemon.log))
  await eventually('the program is gone', async () => {
    const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
    return stats?.linux?.process?.processCount?.value === '1'
  })
})

test('a client that goes away before the program has begun leaves no call behind either', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { info } = await daemon.call('ContainerStatus', { containerId, verbose: true })
  const cgroup: string = JSON.parse(info['info'] ?? '').cgroup
  const count = () => readFileSync(join(cgroup, 'cgroup.stat'), 'utf8')
  const [before, ended] = [count(), daemon.log.length]
  // Where nothing can begin.
  writeFileSync(join(cgroup, 'cgroup.freeze'), '1')
  try {
    const asked = failure(
      daemon.call('ExecSync', { containerId, cmd: ['probe', 'true'] }, { deadlineMs: 1000 }),
    )
    await eventually('it is being made', () => count() !== before)
    assert.is((await asked).code, DEADLINE_EXCEEDED)
    await eventually('the call has ended', () =>
      /method=ExecSync .*code=CANCELLED/.test(daemon.log.slice(ended)),
    )
    await eventually('what was made of it is gone', () => groupPids(cgroup).length === 1)
  } finally {
    writeFileSync(join(cgroup, 'cgroup.freeze'), '0')
  }
})

test.after.each(async () => {
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
