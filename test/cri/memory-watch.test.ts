/** Limits of memory: where the kernel has no controller for them the daemon watches (`cgroup.missing = "warn"`), and what it tells is the same. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cgroupHost } from '../../src/cgroup/index.ts'
import type * as cri from '../../src/spec/cri.ts'
import { CriDaemon, exited, type Given, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const MIB = 1024 * 1024

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

const limit = (mib: number): Given<cri.ContainerConfig> => ({
  linux: {
    resources: { memoryLimitInBytes: String(mib * MIB), memorySwapLimitInBytes: String(mib * MIB) },
    securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
  },
})

const holding = (mib: number): string[] => ['probe', 'memory', String(mib * MIB), '1000']

const endOf = async (id: string) => {
  const { exitCode, reason } = await exited(daemon, id)
  return [exitCode, reason]
}

test('a container above its limit is OOMKilled, for this daemon and the next; one below it runs on', async () => {
  await daemon.loadHello()
  await daemon.start()
  const pod = await runPod(daemon)
  const below = await runContainer(daemon, pod, holding(16), limit(32))
  const free = await runContainer(daemon, pod, holding(64))
  const above = await runContainer(daemon, pod, holding(64), limit(32))
  assert.equal(await endOf(above), [137, 'OOMKilled'])
  await daemon.end('SIGKILL')
  await daemon.start()
  assert.equal(await endOf(above), [137, 'OOMKilled'])
  for (const id of [below, free]) assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
  // Looked at by this daemon, too.
  const again = await runContainer(daemon, pod, holding(64), limit(32))
  assert.equal(await endOf(again), [137, 'OOMKilled'])
  for (const id of [below, free]) assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
  // Of one that was killed by somebody else it is not told.
  await daemon.call('StopContainer', { containerId: below, timeout: '0' })
  assert.equal(await endOf(below), [137, 'Error'])
})

test('a monitor that hangs keeps no other container from being watched', async () => {
  // Else the kernel does it.
  if (cgroupHost().controllers.includes('memory')) return
  const [hung, other] = [await runPod(daemon), await runPod(daemon)]
  const first = await runContainer(daemon, hung, holding(64), limit(128))
  const { monitor } = JSON.parse(
    readFileSync(join(daemon.berth.state, 'pods', hung.id, 'status.json'), 'utf8'),
  )
  process.kill(monitor, 'SIGSTOP')
  try {
    await daemon.call('UpdateContainerResources', {
      containerId: first,
      linux: { memoryLimitInBytes: String(32 * MIB), memorySwapLimitInBytes: String(32 * MIB) },
    })
    await eventually('it is found out', () => daemon.log.includes(`container ${first} has`))
    assert.equal(await endOf(await runContainer(daemon, other, holding(64), limit(32))), [
      137,
      'OOMKilled',
    ])
  } finally {
    process.kill(monitor, 'SIGCONT')
  }
  assert.equal(await endOf(first), [137, 'OOMKilled'])
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
