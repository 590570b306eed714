/** The life of pods and containers over the real socket: every call that changes something, in order and out of it. */
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  HELLO,
  logLines,
  podConfig,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const INVALID_ARGUMENT = 3
const DEADLINE_EXCEEDED = 4
const NOT_FOUND = 5
const ALREADY_EXISTS = 6
const FAILED_PRECONDITION = 9
const UNIMPLEMENTED = 12

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })
const nobody = 'f'.repeat(64)

test('the daemon starts, and its socket is for root alone', async () => {
  await daemon.loadHello()
  await daemon.start()
  assert.is(statSync(daemon.socket).mode & 0o777, 0o600)
  const version = await daemon.call('Version')
  assert.equal(
    [version.version, version.runtimeName, version.runtimeApiVersion],
    ['0.1.0', 'berth', 'v1'],
  )
  assert.match(version.runtimeVersion, /^\d+\.\d+\.\d+/)
})

test('a second daemon on the same roots is refused', async () => {
  const second = ['serve', '--config', daemon.config, '--socket', `${daemon.socket}2`]
  const { code, stderr } = await daemon.berth.run(second)
  assert.is(code, 125)
  assert.match(stderr, /another berth serve/)
  // It would take the pods for lost with their monitors, and end them.
  const other = ['--state', join(daemon.berth.directory, 'other'), ...second]
  await daemon.berth.refused(other, /is in use with --state/)
})

test('Status tells conditions and handlers as the kubelet reads them', async () => {
  const { status, runtimeHandlers, features, info } = await daemon.call('Status', { verbose: true })
  const byType = new Map(status?.conditions.map((each) => [each.type, each]))
  assert.is(byType.get('RuntimeReady')?.status, true)
  assert.is(byType.get('NetworkReady')?.status, false)
  assert.match(byType.get('NetworkReady')?.message ?? '', /no CNI network in/)
  assert.equal(
    runtimeHandlers.map(({ name }) => name),
    ['', 'berth'],
  )
  assert.is(features?.supplementalGroupsPolicy, true)
  assert.is(JSON.parse(info['config'] ?? '').cgroup.missing, 'warn')
  const { linux } = await daemon.call('RuntimeConfig')
  assert.is(linux?.cgroupDriver, 'CGROUPFS')
  await daemon.call('UpdateRuntimeConfig', {
    runtimeConfig: { networkConfig: { podCidr: '10.9.0.0/24' } },
  })
})

test('a container runs in a pod, and what it was is told until it is removed', async () => {
  const pod = await runPod(daemon, {
    labels: { app: 'x', 'io.kubernetes.pod.uid': 'u' },
    annotations: { note: 'ä\n"' },
  })
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['probe', 'exit', '7'], {
      labels: { c: '1' },
      annotations: { k: 'v' },
    }),
    sandboxConfig: pod.config,
  })
  const created = await statusOf(daemon, containerId)
  assert.is(created.state, 'CONTAINER_CREATED')
  assert.is(created.startedAt, '0')
  assert.not.equal(created.createdAt, '0')
  await daemon.call('StartContainer', { containerId })
  const status = await exited(daemon, containerId)
  assert.equal([status.exitCode, status.reason], [7, 'Error'])
  assert.ok(BigInt(status.createdAt) <= BigInt(status.startedAt))
  assert.ok(BigInt(status.startedAt) <= BigInt(status.finishedAt))
  assert.equal([status.labels, status.annotations], [{ c: '1' }, { k: 'v' }])
  assert.is(status.image?.image, HELLO)
  const { image } = await daemon.call('ImageStatus', { image: { image: HELLO } })
  assert.is(status.imageId, image?.id)
  assert.is(
    (await failure(daemon.call('StartContainer', { containerId }))).code,
    FAILED_PRECONDITION,
  )

  const { items } = await daemon.call('ListPodSandbox', {
    filter: { labelSelector: { app: 'x' }, state: { state: 'SANDBOX_READY' } },
  })
  assert.equal(
    items.map(({ id }) => id),
    [pod.id],
  )
  assert.equal(items[0]?.annotations, { note: 'ä\n"' })
  const { containers } = await daemon.call('ListContainers', {
    filter: { id: containerId.slice(0, 13), podSandboxId: pod.id.slice(0, 13) },
  })
  assert.equal(
    containers.map(({ id, state }) => [id, state]),
    [[containerId, 'CONTAINER_EXITED']],
  )
  await daemon.call('RemoveContainer', { containerId })
  await daemon.call('RemoveContainer', { containerId })
  assert.is((await failure(daemon.call('ContainerStatus', { containerId }))).code, NOT_FOUND)
  assert.ok(existsSync(status.logPath))
  await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  const { status: stopped } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
  assert.is(stopped?.state, 'SANDBOX_NOTREADY')
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.is(
    (await failure(daemon.call('PodSandboxStatus', { podSandboxId: pod.id }))).code,
    NOT_FOUND,
  )
})

test('what is asked of nothing: stops and removals succeed, all else is told', async () => {
  await daemon.call('StopPodSandbox', { podSandboxId: nobody })
  await daemon.call('RemovePodSandbox', { podSandboxId: nobody })
  await daemon.call('StopContainer', { containerId: nobody, timeout: '1' })
  await daemon.call('RemoveContainer', { containerId: nobody })
  for (const promise of [
    daemon.call('ContainerStatus', { containerId: nobody }),
    daemon.call('StartContainer', { containerId: nobody }),
    daemon.call('ExecSync', { containerId: nobody, cmd: ['x'] }),
    daemon.call('CreateContainer', { podSandboxId: nobody, config: containerConfig(['x']) }),
  ]) {
    assert.is((await failure(promise)).code, NOT_FOUND)
  }
  assert.is((await failure(daemon.call('RunPodSandbox', {}))).code, INVALID_ARGUMENT)
  for (const name of ['CheckpointContainer', 'CheckpointPod', 'RestorePod'] as const)
    assert.is((await failure(daemon.call(name, {}))).code, UNIMPLEMENTED)
})

test('a handler that nobody configured is refused', async () => {
  const config = podConfig(daemon)
  const { code, text } = await failure(
    daemon.call('RunPodSandbox', { config, runtimeHandler: 'kata' }),
  )
  assert.is(code, NOT_FOUND)
  assert.match(text, /kata/)
  assert.equal((await daemon.call('ListPodSandbox')).items, [])
})

test('the same pod asked for at once and again is one; another attempt is another', async () => {
  const config = podConfig(daemon)
  const all = await Promise.all([1, 2, 3].map(() => daemon.call('RunPodSandbox', { config })))
  assert.is(new Set(all.map(({ podSandboxId }) => podSandboxId)).size, 1)
  const { podSandboxId: id } = await daemon.call('RunPodSandbox', { config })
  assert.is(id, all[0]?.podSandboxId)
  const other = { ...config, labels: { changed: 'yes' } }
  assert.is((await failure(daemon.call('RunPodSandbox', { config: other }))).code, ALREADY_EXISTS)
  const next = { ...config, metadata: { ...config.metadata, attempt: 1 } }
  const { podSandboxId } = await daemon.call('RunPodSandbox', { config: next })
  assert.is.not(podSandboxId, id)
  const container = containerConfig(['probe', 'sleep', '1000'])
  const made = await Promise.all(
    [1, 2, 3].map(() =>
      daemon.call('CreateContainer', {
        podSandboxId: id,
        config: container,
        sandboxConfig: config,
      }),
    ),
  )
  assert.is(new Set(made.map(({ containerId }) => containerId)).size, 1)
  for (const each of [id, podSandboxId])
    await daemon.call('RemovePodSandbox', { podSandboxId: each })
  assert.equal((await daemon.call('ListContainers')).containers, [])
})

test('a program that is not there: the start fails, and the container says why', async () => {
  const pod = await runPod(daemon)
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['/no/such/program']),
  })
  const { text } = await failure(daemon.call('StartContainer', { containerId }))
  assert.match(text, /no\/such\/program/)
  const status = await statusOf(daemon, containerId)
  assert.equal(
    [status.state, status.exitCode, status.reason],
    ['CONTAINER_EXITED', 127, 'StartError'],
  )
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('stop: the signal first, SIGKILL after the time; a later call in a hurry shortens the first', async () => {
  const pod = await runPod(daemon)
  const polite = await runContainer(daemon, pod, ['probe', 'trap', '1000'], {
    stopSignal: 'SIGNAL_SIGUSR2',
  })
  await eventually('it has its handlers', async () =>
    readFileSync((await statusOf(daemon, polite)).logPath, 'utf8').includes('\n'),
  )
  const asked = performance.now()
  await daemon.call('StopContainer', { containerId: polite, timeout: '40' })
  assert.ok(performance.now() - asked < 20_000)
  const status = await statusOf(daemon, polite)
  assert.equal([status.exitCode, status.stopSignal], [3, 'SIGNAL_SIGUSR2'])
  // PID 1 without a handler: the kernel keeps SIGTERM from it.
  const deaf = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const slow = daemon.call('StopContainer', { containerId: deaf, timeout: '50' })
  const begin = performance.now()
  await daemon.call('StopContainer', { containerId: deaf, timeout: '1' })
  await slow
  assert.ok(performance.now() - begin < 20_000)
  assert.is((await statusOf(daemon, deaf)).exitCode, 137)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('changed limits are told at once, with a time that says that something has changed', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const timestamp = async () =>
    BigInt((await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })).timestamp)
  const before = await timestamp()
  assert.is(await timestamp(), before)
  await daemon.call('UpdateContainerResources', { containerId, linux: { cpuShares: '512' } })
  assert.is((await statusOf(daemon, containerId)).resources?.linux?.cpuShares, '512')
  assert.ok((await timestamp()) > before)
})

test('ExecSync gives output and exit code; after its time the whole tree is dead, and the code is DEADLINE_EXCEEDED', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { stdout, stderr, exitCode } = await daemon.call('ExecSync', {
    containerId,
    cmd: ['probe', 'echo', 'out'],
  })
  assert.equal([stdout.toString(), stderr.toString(), exitCode], ['out\n', '', 0])
  const failed = await daemon.call('ExecSync', { containerId, cmd: ['probe', 'exit', '3'] })
  assert.is(failed.exitCode, 3)
  const { code } = await failure(
    daemon.call('ExecSync', { containerId, cmd: ['probe', 'sleep', '1000'], timeout: '1' }),
  )
  assert.is(code, DEADLINE_EXCEEDED)
  const { stdout: list } = await daemon.call('ExecSync', { containerId, cmd: ['probe', 'ps'] })
  // The first process and `ps` itself.
  assert.is(list.toString().trim().split('\n').length, 2, list.toString())
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.is(
    (await failure(daemon.call('ExecSync', { containerId, cmd: ['probe', 'true'] }))).code,
    NOT_FOUND,
  )
})

test('the log is reopened under its name; of a container that has ended it is not', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'lines', '100000', '200'])
  const { logPath } = await statusOf(daemon, containerId)
  await eventually('lines', () => logLines(logPath).length > 5)
  renameSync(logPath, `${logPath}.1`)
  await daemon.call('ReopenContainerLog', { containerId })
  await eventually('lines in the new file', () => logLines(logPath).length > 5)
  await daemon.call('StopContainer', { containerId, timeout: '0' })
  const lines = [...logLines(`${logPath}.1`), ...logLines(logPath)]
  const numbers = lines.map((line) => Number(/\d+/.exec(line)?.[0]))
  assert.equal(
    numbers,
    numbers.map((_, i) => i + (numbers[0] ?? 0)),
  )
  renameSync(logPath, `${logPath}.2`)
  assert.is(
    (await failure(daemon.call('ReopenContainerLog', { containerId }))).code,
    FAILED_PRECONDITION,
  )
  assert.not(existsSync(logPath))
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a log path that leads out of the directory of logs is refused', async () => {
  const pod = await runPod(daemon)
  for (const logPath of ['../../x.log', '/etc/x.log', 'a/../../x']) {
    const { code } = await failure(
      daemon.call('CreateContainer', {
        podSandboxId: pod.id,
        config: containerConfig(['probe'], { logPath }),
      }),
    )
    assert.is(code, INVALID_ARGUMENT, logPath)
  }
  assert.equal((await daemon.call('ListContainers')).containers, [])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a removal of a pod kills what runs in it', async () => {
  const pod = await runPod(daemon)
  const ids = await Promise.all(
    [1, 2, 3].map(() => runContainer(daemon, pod, ['probe', 'sleep', '1000'])),
  )
  assert.is((await daemon.call('ListContainers')).containers.length, 3)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.equal((await daemon.call('ListContainers')).containers, [])
  assert.is(ids.length, 3)
})

test('events tell each step, with the pod and its containers as they are then', async () => {
  const stream = daemon.client.stream('GetContainerEvents')
  const seen: string[] = []
  stream.on('error', () => {})
  stream.on('data', (event) => {
    seen.push(event.containerEventType)
  })
  // The call is on its way; a first event shows that it has arrived.
  await eventually('the subscription', async () => {
    const pod = await runPod(daemon)
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
    return seen.length > 0
  })
  seen.length = 0
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'true'])
  await exited(daemon, id)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  await eventually('all of them', () => seen.filter((t) => t.includes('DELETED')).length >= 2)
  const types = seen.map((type) => type.replace(/CONTAINER_|_EVENT/g, ''))
  assert.equal(types.slice(-8), [
    'CREATED',
    'STARTED',
    'CREATED',
    'STARTED',
    'STOPPED',
    'STOPPED',
    'DELETED',
    'DELETED',
  ])
  stream.cancel()
})

test("a pod's status and its events have the newest attempt of a container first", async () => {
  const stream = daemon.client.stream('GetContainerEvents')
  const told: (readonly string[])[] = []
  stream.on('error', () => {})
  stream.on('data', (event) => {
    told.push(event.containersStatuses.map(({ id }: { id: string }) => id))
  })
  const pod = await runPod(daemon)
  const ids: string[] = []
  for (const attempt of [0, 1, 2]) {
    const metadata = { name: 'again', attempt }
    const id = await runContainer(daemon, pod, ['probe', 'true'], { metadata })
    await exited(daemon, id)
    ids.unshift(id)
  }
  const { containersStatuses } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
  assert.equal(
    containersStatuses.map((each) => each.id),
    ids,
  )
  await eventually('the last event', () => told.some((each) => each.length === ids.length))
  assert.equal(told.at(-1), ids)
  stream.cancel()
})

test('the lists in streams hold the same', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const pods = (await daemon.client.list('StreamPodSandboxes')).flatMap((p) => p.podSandboxes)
  assert.equal(
    pods.map((each) => each.id),
    [pod.id],
  )
  const containers = (await daemon.client.list('StreamContainers')).flatMap((p) => p.containers)
  assert.equal(
    containers.map((each) => each.id),
    [id],
  )
  const stats = (await daemon.client.list('StreamContainerStats')).flatMap((p) => p.containerStats)
  assert.equal(
    stats.map((each) => each.attributes?.id),
    [id],
  )
  assert.is((await daemon.client.list('StreamImages')).flatMap((p) => p.images).length, 1)
  const none = { filter: { labelSelector: { no: 'such' } } }
  assert.equal(await daemon.client.list('StreamPodSandboxes', none), [])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('the status of a container calls its image as the pod does, whatever else it is called', async () => {
  const other = 'docker.io/library/z:1'
  await daemon.berth.ok(['tag', HELLO, other])
  const { image } = await daemon.call('ImageStatus', { image: { image: HELLO } })
  assert.equal(image?.repoTags.toSorted(), [other, HELLO])
  const pod = await runPod(daemon)
  const calledWhen = async (userSpecifiedImage: string) => {
    const config = containerConfig(['probe', 'exit', '0'], {
      image: { image: image?.id ?? '', userSpecifiedImage },
    })
    const { containerId } = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config,
      sandboxConfig: pod.config,
    })
    return (await statusOf(daemon, containerId)).image?.image
  }
  assert.equal(
    [await calledWhen(HELLO), await calledWhen('z:1'), await calledWhen(other)],
    [HELLO, other, other],
  )
  const first = await calledWhen('')
  for (const unknown of ['Not A Name', 'localhost/hello:2', image?.id ?? '']) {
    assert.is(await calledWhen(unknown), first)
  }
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  await daemon.berth.ok(['rmi', other])
})

test.after.each(async () => {
  // What a failed claim has left must not fail the next one.
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('nothing is left behind', async () => {
  assert.ok(!existsSync(join(daemon.berth.root, 'quarantine')))
  await daemon.destroy()
  await clean()
})

test.run()
