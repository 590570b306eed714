/** A container's first process, which is made before its start: nobody sees it until then, and it is never left behind. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

/** As in src/pod/ahead.ts, and time for a machine that others use. */
const AHEAD_MS = 10_000
const AHEAD_MAX = 32
const LATE_MS = 20_000

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })
type Pod = Awaited<ReturnType<typeof runPod>>

async function create(pod: Pod, command = ['probe', 'sleep', '1000'], name = 'main') {
  const config = containerConfig(command, { metadata: { name, attempt: 0 } })
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config,
    sandboxConfig: pod.config,
  })
  return containerId
}

const said = (pod: Pod) =>
  JSON.parse(readFileSync(join(daemon.berth.state, 'pods', pod.id, 'status.json'), 'utf8'))

/** The pid of the process that waits for the container's start. */
const waiting = (pod: Pod, id: string): Promise<number> =>
  eventually(
    'its process waits',
    () => {
      const known = said(pod).containers[id]
      return known?.state === 'created' && known.pid
    },
    { withinMs: LATE_MS },
  )

const fileOf = (pod: Pod, id: string, name: string): string =>
  join(daemon.berth.root, 'pods', pod.id, 'containers', id, name)
const cgroupOf = (id: string): string => join(cgroupRoot(), 'berth', id)

/** That a container is as if nothing had been made for it. */
async function isBare(pod: Pod, id: string): Promise<void> {
  assert.is((await statusOf(daemon, id)).state, 'CONTAINER_CREATED')
  assert.not(existsSync(cgroupOf(id)))
  for (const name of ['ahead.json', 'run.json', 'exit.json'])
    assert.not(existsSync(fileOf(pod, id, name)), name)
}

async function starts(id: string): Promise<void> {
  await daemon.call('StartContainer', { containerId: id })
  assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
  const { stdout } = await daemon.call('ExecSync', { containerId: id, cmd: ['probe', 'echo', 'x'] })
  assert.is(stdout.toString(), 'x\n')
}

const remove = ({ id }: Pod) => daemon.call('RemovePodSandbox', { podSandboxId: id })

test('it waits where the container is only created, and is what the start runs', async () => {
  await daemon.loadHello()
  await daemon.start()
  const pod = await runPod(daemon)
  const id = await create(pod)
  const pid = await waiting(pod, id)
  const status = await statusOf(daemon, id)
  assert.equal([status.state, status.startedAt], ['CONTAINER_CREATED', '0'])
  assert.ok(existsSync(fileOf(pod, id, 'ahead.json')))
  const { stats } = await daemon.call('ListContainerStats')
  assert.equal(stats, [])
  const refused = daemon.call('ExecSync', { containerId: id, cmd: ['probe', 'true'] })
  assert.match((await failure(refused)).text, /not running|created/)
  await starts(id)
  assert.is(said(pod).containers[id].pid, pid)
  assert.not(existsSync(fileOf(pod, id, 'ahead.json')))
  assert.ok(existsSync(fileOf(pod, id, 'run.json')))
  await daemon.call('StopContainer', { containerId: id, timeout: '0' })
  assert.is((await statusOf(daemon, id)).exitCode, 137)
  await remove(pod)
})

for (const [what, act] of [
  ['its removal', (_: Pod, containerId: string) => daemon.call('RemoveContainer', { containerId })],
  ['a stop of its pod', ({ id }: Pod) => daemon.call('StopPodSandbox', { podSandboxId: id })],
  ['a removal of its pod', remove],
] as const) {
  test(`${what} takes it along`, async () => {
    const pod = await runPod(daemon)
    const id = await create(pod)
    const pid = await waiting(pod, id)
    await act(pod, id)
    assert.not(lives(pid))
    assert.not(existsSync(cgroupOf(id)))
    await remove(pod)
  })
}

test('a stop takes it back, and changed limits: the start then makes another', async () => {
  const pod = await runPod(daemon)
  for (const [name, act] of [
    ['stopped', (id: string) => daemon.call('StopContainer', { containerId: id, timeout: '10' })],
    [
      'updated',
      (id: string) =>
        daemon.call('UpdateContainerResources', {
          containerId: id,
          linux: { oomScoreAdj: '0', unified: {} },
        }),
    ],
  ] as const) {
    const id = await create(pod, undefined, name)
    const pid = await waiting(pod, id)
    await act(id)
    assert.not(lives(pid), name)
    await isBare(pod, id)
    await starts(id)
  }
  await remove(pod)
})

test('it is killed: the container is created as before, and starts', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  process.kill(await waiting(pod, id), 'SIGKILL')
  await eventually('it is taken back', () => !existsSync(fileOf(pod, id, 'ahead.json')))
  await isBare(pod, id)
  assert.equal(said(pod).containers, {})
  await starts(id)
  await remove(pod)
})

test('it is killed and the start comes at once', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  process.kill(await waiting(pod, id), 'SIGSTOP')
  process.kill(said(pod).containers[id].pid, 'SIGKILL')
  // By whichever way, it does not stay created.
  await daemon.call('StartContainer', { containerId: id }).catch(() => {})
  assert.is.not((await statusOf(daemon, id)).state, 'CONTAINER_CREATED')
  await remove(pod)
})

test('its daemon is killed: with the next one the container is created, and starts', async () => {
  const pod = await runPod(daemon)
  const ids = [await create(pod), await create(pod, undefined, 'second')]
  const pids = [await waiting(pod, ids[0] ?? ''), await waiting(pod, ids[1] ?? '')]
  await daemon.end('SIGKILL')
  // One of them is killed meanwhile, which its monitor takes for its end.
  process.kill(pids[1] ?? 0, 'SIGKILL')
  await eventually('its end is written', () => existsSync(fileOf(pod, ids[1] ?? '', 'exit.json')))
  const [listed] = JSON.parse(await daemon.berth.ok(['pods', '--format', 'json']))
  assert.equal(
    listed.containers.map(({ state }: { state: string }) => state),
    ['created', 'created'],
  )
  await daemon.start()
  for (const [i, id] of ids.entries()) {
    assert.not(lives(pids[i] ?? 0))
    await isBare(pod, id)
    await starts(id)
  }
  await remove(pod)
})

test('its daemon ends and the monitor is killed: nothing of it is left', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  const pid = await waiting(pod, id)
  const { monitor } = said(pod)
  await daemon.end('SIGKILL')
  process.kill(monitor, 'SIGKILL')
  await daemon.start()
  await eventually('it has ended', () => !lives(pid))
  await isBare(pod, id)
  await remove(pod)
})

test('its monitor is killed: the container was never started', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  const pid = await waiting(pod, id)
  process.kill(said(pod).monitor, 'SIGKILL')
  await eventually('it is taken back', () => !existsSync(fileOf(pod, id, 'ahead.json')))
  assert.not(lives(pid))
  await isBare(pod, id)
  const start = daemon.call('StartContainer', { containerId: id })
  assert.match((await failure(start)).text, /not ready/)
  await remove(pod)
})

test('its monitor is killed and it cannot be taken back: the other containers have ended all the same', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  const other = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  // As on a disk that has become read-only, the mark cannot be removed.
  const mark = fileOf(pod, id, 'ahead.json')
  rmSync(mark)
  mkdirSync(mark)
  process.kill(said(pod).monitor, 'SIGKILL')
  assert.is((await exited(daemon, other)).reason, 'Unknown')
  rmdirSync(mark)
  await remove(pod)
})

test('its monitor hangs: the start says so, and the process does not outlive the removal', async () => {
  const pod = await runPod(daemon)
  const id = await create(pod)
  const pid = await waiting(pod, id)
  const { monitor } = said(pod)
  process.kill(monitor, 'SIGSTOP')
  const start = daemon.call('StartContainer', { containerId: id })
  assert.match((await failure(start)).text, /does not answer/)
  assert.is((await statusOf(daemon, id)).reason, 'StartError')
  process.kill(monitor, 'SIGCONT')
  await daemon.call('RemoveContainer', { containerId: id })
  assert.not(lives(pid))
  assert.not(existsSync(cgroupOf(id)))
  assert.equal(said(pod).containers, {})
  await remove(pod)
})

test('its monitor hangs while it is made, and the daemon is killed after the start has failed: it does not outlive the removal', async () => {
  const parent = `berth-ahead-${process.pid}`
  const group = join(cgroupRoot(), parent)
  mkdirSync(group)
  const pod = await runPod(daemon, {
    linux: { cgroupParent: `/${parent}` },
  })
  const { monitor } = said(pod)
  // It is made as far as its clone.
  writeFileSync(join(group, 'cgroup.freeze'), '1')
  const id = await create(pod)
  await eventually('it is being made', () => said(pod).containers[id]?.state === 'creating')
  process.kill(monitor, 'SIGSTOP')
  const start = daemon.call('StartContainer', { containerId: id })
  assert.match((await failure(start)).text, /does not answer/)
  await daemon.end('SIGKILL')
  writeFileSync(join(group, 'cgroup.freeze'), '0')
  process.kill(monitor, 'SIGCONT')
  const pid = await waiting(pod, id)
  await daemon.start()
  assert.is((await statusOf(daemon, id)).reason, 'StartError')
  await daemon.call('RemoveContainer', { containerId: id })
  assert.not(lives(pid))
  assert.equal(said(pod).containers, {})
  await remove(pod)
  await eventually('its monitor has ended', () => !lives(monitor))
  rmdirSync(group)
})

test('what cannot be started is refused at its creation, and leaves nothing', async () => {
  const pod = await runPod(daemon)
  const refused = runContainer(daemon, pod, ['probe'], { workingDir: 'relative' })
  assert.match((await failure(refused)).text, /relative/)
  assert.equal(readdirSync(join(daemon.berth.root, 'pods', pod.id, 'containers')), [])
  assert.equal(said(pod).containers, {})
  const id = await create(pod, ['/no/such/program'])
  await waiting(pod, id)
  const start = daemon.call('StartContainer', { containerId: id })
  assert.match((await failure(start)).text, /no such file/i)
  assert.is((await exited(daemon, id)).exitCode, 127)
  await remove(pod)
})

test('with processes of others nothing is made before the start', async () => {
  const namespaceOptions = { network: 'NODE', pid: 'POD', ipc: 'POD' } as const
  const linux = { securityContext: { namespaceOptions } }
  const pod = await runPod(daemon, { linux })
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['probe', 'sleep', '1000'], { linux }),
    sandboxConfig: pod.config,
  })
  await isBare(pod, containerId)
  assert.equal(said(pod).containers, {})
  await starts(containerId)
  await remove(pod)
})

test('of containers that nobody starts only some have one, for some time', async () => {
  const pod = await runPod(daemon)
  const begin = performance.now()
  const ids: string[] = []
  for (let n = 0; n < AHEAD_MAX + 2; n++) ids.push(await create(pod, undefined, `n-${n}`))
  const made = ids.filter((id) => existsSync(fileOf(pod, id, 'ahead.json')))
  assert.ok(made.length <= AHEAD_MAX)
  // On a machine that is slow the first are gone by now.
  if (performance.now() - begin < AHEAD_MS) assert.is(made.length, AHEAD_MAX)
  const over = async () => Object.keys(said(pod).containers).length === 0
  await eventually('they are taken back', over, { withinMs: AHEAD_MS + LATE_MS })
  for (const id of ids) {
    await eventually('its mark is gone', () => !existsSync(fileOf(pod, id, 'ahead.json')))
    await isBare(pod, id)
  }
  await starts(ids[0] ?? '')
  await starts(ids[AHEAD_MAX] ?? '')
  await remove(pod)
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
