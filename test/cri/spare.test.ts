/** The monitor that waits for the next pod, and the files beside it: they are taken, replaced, missed when it is gone, and never left behind. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
const files = join(daemon.berth.root, 'spares/pods')

/** The one that waits, by its arguments, as those of a pod are known. */
function waiting(): Promise<{ id: string; pid: number }> {
  return eventually('a monitor waits', () => {
    const [id, ...more] = readdirSync(spares)
    if (id === undefined) return
    assert.equal(more, [])
    const pid = monitorOf(id)
    return (
      pid !== undefined && existsSync(join(files, id, 'making.json.tmp-prepared')) && { id, pid }
    )
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
  const pod = await runPod(daemon)
  assert.is.not(pod.id, spare.id)
  assert.is(monitorOf(spare.id), undefined)
  const container = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is((await statusOf(daemon, container)).state, 'CONTAINER_RUNNING')
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.equal(readdirSync(join(daemon.berth.state, 'pods')), [])
  assert.equal(readdirSync(join(daemon.berth.root, 'pods')), [])
})

test('a pod that needs what must be there first has its own, and the next such pod one that waits; the other waits on', async () => {
  const spare = await waiting()
  const linux = {
    securityContext: { namespaceOptions: { network: 'NODE', pid: 'POD', ipc: 'POD' } },
  } as const
  const pods = [await runPod(daemon, { linux })]
  assert.is.not(pods[0]?.id, spare.id)
  const both = await eventually('both wait', () => {
    const names = readdirSync(files)
    return names.length === 2 && names.every(monitorOf) && names
  })
  assert.ok(both.includes(spare.id))
  pods.push(await runPod(daemon, { linux }))
  assert.ok(both.includes(pods[1]?.id ?? ''))
  pods.push(await runPod(daemon))
  assert.is(pods[2]?.id, spare.id)
  for (const { id } of pods) await daemon.call('RemovePodSandbox', { podSandboxId: id })
  await daemon.end()
  await daemon.start()
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

test('a pod has the files that wait with its monitor, and its first container those that are in there', async () => {
  const { id } = await waiting()
  const [container] = readdirSync(join(files, id, 'containers'))
  const pod = await runPod(daemon)
  assert.not.ok(existsSync(join(files, id)))
  const first = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is(first, container)
  const second = await runContainer(daemon, pod, ['probe', 'sleep', '1000'], {
    metadata: { name: 'second', attempt: 0 },
  })
  const containers = join(daemon.berth.root, 'pods', pod.id, 'containers')
  assert.equal(readdirSync(containers).sort(), [first, second].sort())
  for (const each of [first, second]) {
    const names = readdirSync(join(containers, each)).sort()
    assert.equal(names, ['config.json', 'record.json', 'run.json', 'upper', 'work'])
  }
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('files of removed containers that a killed daemon has left go with the next, and where they cannot be put aside the pod waits for them', async () => {
  const { root } = daemon.berth
  const trash = join(root, 'pod-trash')
  const once = async (): Promise<string> => {
    const pod = await runPod(daemon)
    const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
    assert.equal(readdirSync(join(root, 'pods')), [])
    return id
  }
  const id = await once()
  await eventually('its files are gone', () => readdirSync(trash).length === 0)
  await daemon.end('SIGKILL')
  mkdirSync(join(trash, id, 'upper/deep'), { recursive: true })
  await daemon.start()
  await eventually('they are gone', () => readdirSync(trash).length === 0)
  rmSync(trash, { recursive: true })
  writeFileSync(trash, '')
  await once()
  rmSync(trash)
  await once()
  await daemon.end()
  assert.equal(readdirSync(trash), [])
  await daemon.start()
})

test('a container that is refused takes the files along, and the next one makes its own', async () => {
  await waiting()
  const pod = await runPod(daemon)
  const containers = join(daemon.berth.root, 'pods', pod.id, 'containers')
  const [prepared] = readdirSync(containers)
  const refused = runContainer(daemon, pod, ['probe'], { workingDir: 'relative' })
  assert.match((await failure(refused)).text, /relative/)
  assert.equal(readdirSync(containers), [])
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is.not(id, prepared)
  assert.equal(readdirSync(containers), [id])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a daemon that was killed has left files for a pod, and for a container of one: the next removes them', async () => {
  await waiting()
  const pod = await runPod(daemon)
  await waiting()
  await daemon.end('SIGKILL')
  assert.is(readdirSync(files).length, 1)
  const containers = join(daemon.berth.root, 'pods', pod.id, 'containers')
  assert.is(readdirSync(containers).length, 1)
  await daemon.start()
  assert.equal(readdirSync(containers), [])
  const { id } = await waiting()
  assert.equal(readdirSync(files), [id])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('without the files that were made for it, a pod is made all the same', async () => {
  const { id } = await waiting()
  rmSync(join(files, id), { recursive: true })
  const pod = await runPod(daemon)
  const container = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  assert.is((await statusOf(daemon, container)).state, 'CONTAINER_RUNNING')
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('pods that come at once each have one of their own, and after them as many wait', async () => {
  await waiting()
  const pods = await Promise.all(Array.from({ length: 5 }, () => runPod(daemon)))
  const pids = pods.map(({ id }) => monitorOf(id))
  assert.is(new Set(pids).size, 5)
  assert.not.ok(pids.includes(undefined))
  await eventually('five monitors wait', () => readdirSync(files).length === 5)
  const again = await Promise.all(Array.from({ length: 5 }, () => runPod(daemon)))
  assert.is(new Set([...pods, ...again].map(({ id }) => id)).size, 10)
  for (const { id } of [...pods, ...again])
    await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('a daemon that ends takes them along', async () => {
  // One more where a pod of the last ones came while its own was still being made.
  await eventually('five monitors wait', () => readdirSync(files).length >= 5)
  const waits = readdirSync(spares)
  await daemon.end()
  for (const id of waits) assert.is(monitorOf(id), undefined)
  assert.equal(readdirSync(spares), [])
  assert.equal(readdirSync(files), [])
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
