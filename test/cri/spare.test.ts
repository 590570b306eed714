/** The monitor that waits for the next pod: it is taken, replaced, missed when it is gone, and never left behind. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, failure, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { processesOf, traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })
const spares = join(daemon.berth.state, 'spares')

/** The one that waits, by its arguments, as those of a pod are known. */
function waiting(): Promise<{ id: string; pid: number }> {
  return eventually('a monitor waits', () => {
    const [id, ...more] = readdirSync(spares)
    if (id === undefined) return
    assert.equal(more, [])
    const pid = monitorOf(id)
    return pid !== undefined && existsSync(join(spares, id, 'status.json')) && { id, pid }
  })
}

function monitorOf(id: string): number | undefined {
  return processesOf([daemon.berth.directory, id]).find((pid) => {
    const [name, , own] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return name === 'berth-monitor' && own === id
  })
}

test('the next pod has the monitor that waits, and after it another one waits', async () => {
  await daemon.loadHello()
  await daemon.start()
  const spare = await waiting()
  const pod = await runPod(daemon)
  assert.is(pod.id, spare.id)
  assert.is(monitorOf(pod.id), spare.pid)
  const container = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is((await statusOf(daemon, container)).state, 'CONTAINER_RUNNING')
  const next = await waiting()
  assert.is.not(next.id, pod.id)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('pods that come at once each have one of their own', async () => {
  await waiting()
  const pods = await Promise.all(Array.from({ length: 5 }, () => runPod(daemon)))
  const pids = pods.map(({ id }) => monitorOf(id))
  assert.is(new Set(pids).size, 5)
  assert.not.ok(pids.includes(undefined))
  await Promise.all(pods.map(({ id }) => daemon.call('RemovePodSandbox', { podSandboxId: id })))
})

test('a pod that is refused leaves it waiting', async () => {
  const spare = await waiting()
  const refused = runPod(daemon, { linux: { cgroupParent: '/../x' } })
  assert.match((await failure(refused)).text, /cgroup_parent/)
  assert.equal(await waiting(), spare)
})

test('where somebody has killed it, the next pod is made all the same', async () => {
  const spare = await waiting()
  process.kill(spare.pid, 'SIGKILL')
  await eventually('its directory is gone', () => !existsSync(join(spares, spare.id)))
  const pod = await runPod(daemon)
  assert.is.not(pod.id, spare.id)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  await waiting()
})

test('one that hangs costs the next pod some time: it is killed, and the pod has another', async () => {
  const spare = await waiting()
  process.kill(spare.pid, 'SIGSTOP')
  const pod = await runPod(daemon, {
    linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'POD', ipc: 'POD' } } },
  })
  assert.is.not(pod.id, spare.id)
  assert.is(monitorOf(spare.id), undefined)
  const container = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is((await statusOf(daemon, container)).state, 'CONTAINER_RUNNING')
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.equal(readdirSync(join(daemon.berth.state, 'pods')), [])
  assert.equal(readdirSync(join(daemon.berth.root, 'pods')), [])
})

test('without its daemon it ends, and the next daemon removes what it has left', async () => {
  const spare = await waiting()
  await daemon.end('SIGKILL')
  await eventually('it ends', () => monitorOf(spare.id) === undefined)
  mkdirSync(join(spares, 'damaged'))
  writeFileSync(join(spares, 'damaged', 'file'), '')
  await daemon.start()
  const next = await waiting()
  assert.is.not(next.id, spare.id)
  assert.equal(readdirSync(spares), [next.id])
})

test('one that hangs when its daemon is killed is killed by the next', async () => {
  const spare = await waiting()
  process.kill(spare.pid, 'SIGSTOP')
  await daemon.end('SIGKILL')
  await daemon.start()
  await eventually('it is gone', () => monitorOf(spare.id) === undefined)
  await waiting()
})

test('a daemon that ends takes it along', async () => {
  const spare = await waiting()
  await daemon.end()
  assert.is(monitorOf(spare.id), undefined)
  assert.equal(readdirSync(spares), [])
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
