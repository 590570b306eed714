/** A daemon that was ended or killed, and the next one: what that one lists is what is true. */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type * as cri from '../../src/spec/cri.ts'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  logLines,
  podConfig,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { cgroupRoot, needing, needs } from '../lib/needs.ts'
import { connectSpdy } from '../lib/spdy-client.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'program:mount')

const NOT_FOUND = 5
const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const clean = traces({ roots: [daemon.berth.directory] })
const SIGNALS = ['SIGTERM', 'SIGKILL'] as const

interface Truth {
  readonly pods: cri.PodSandboxStatus[]
  readonly listed: cri.PodSandbox[]
  readonly containers: cri.ContainerStatus[]
  readonly containersListed: cri.Container[]
}

/** All that a client can see of pods and containers. */
async function truth(): Promise<Truth> {
  const byId = <T extends { id: string }>(list: T[]): T[] =>
    list.sort((a, b) => (a.id < b.id ? -1 : 1))
  const { items } = await daemon.call('ListPodSandbox')
  const { containers } = await daemon.call('ListContainers')
  const pods = await Promise.all(
    items.map(({ id }) => daemon.call('PodSandboxStatus', { podSandboxId: id })),
  )
  return {
    listed: byId(items),
    pods: byId(pods.map(({ status }) => status as cri.PodSandboxStatus)),
    containersListed: byId(containers),
    containers: byId(await Promise.all(containers.map(({ id }) => statusOf(daemon, id)))),
  }
}

async function restart(signal: (typeof SIGNALS)[number]): Promise<void> {
  await daemon.end(signal)
  await daemon.start()
}

function monitorPid(pod: string): number {
  const path = join(daemon.berth.state, 'pods', pod, 'status.json')
  return JSON.parse(readFileSync(path, 'utf8')).monitor
}

async function killMonitor(pod: string): Promise<void> {
  const pid = monitorPid(pod)
  process.kill(pid, 'SIGKILL')
  await eventually('the monitor is gone', () => !existsSync(`/proc/${pid}`))
}

const stateOf = async (id: string): Promise<string | undefined> =>
  (await daemon.call('PodSandboxStatus', { podSandboxId: id })).status?.state

async function exec(containerId: string, ...cmd: string[]): Promise<string> {
  const { stdout } = await daemon.call('ExecSync', { containerId, cmd })
  return stdout.toString()
}

/** Without a gap and without a torn line. */
function assertNumbered(lines: readonly string[]): void {
  assert.equal(
    lines,
    lines.map((_, i) => `line ${i + 1}`),
  )
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

for (const signal of SIGNALS) {
  test(`${signal}: the next daemon tells the same, and goes on with it`, async () => {
    const odd = {
      labels: { app: 'ä"\\\u0001', 'io.kubernetes.pod.uid': 'u' },
      annotations: { empty: '', 'a/b': 'line\nline\t\u2028 ' },
    }
    const pod = await runPod(daemon, { ...odd, ...ownNetwork })
    const host = await runPod(daemon, odd)
    const created = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(['probe', 'echo', 'later'], odd),
    })
    const running = await runContainer(daemon, pod, ['probe', 'sleep', '1000'], odd)
    const writing = await runContainer(daemon, host, ['probe', 'lines', '100000', '500'])
    const echoing = await runContainer(daemon, host, ['probe', 'cat'], { stdin: true })
    const failed = await runContainer(daemon, pod, ['probe', 'exit', '7'])
    const killed = await runContainer(daemon, host, ['probe', 'kill-self', '9'])
    for (const id of [failed, killed]) await exited(daemon, id)
    const unstartable = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(['/no/such/program']),
    })
    await failure(daemon.call('StartContainer', { containerId: unstartable.containerId }))
    const stopped = await runPod(daemon, ownNetwork)
    await runContainer(daemon, stopped, ['probe', 'sleep', '1000'])
    await daemon.call('StopPodSandbox', { podSandboxId: stopped.id })

    const before = await truth()
    assert.match(before.pods.find(({ id }) => id === pod.id)?.network?.ip ?? '', /^10\.77\.0\./)
    assert.equal(
      [failed, killed, unstartable.containerId].map((id) => {
        const found = before.containers.find((each) => each.id === id)
        return [found?.exitCode, found?.reason]
      }),
      [
        [7, 'Error'],
        [137, 'Error'],
        [127, 'StartError'],
      ],
    )
    await restart(signal)
    assert.equal(await truth(), before)

    // It goes on with what there is.
    assert.is(await exec(running, 'probe', 'echo', 'here'), 'here\n')
    await daemon.call('StartContainer', { containerId: created.containerId })
    const late = await exited(daemon, created.containerId)
    assert.equal([late.exitCode, logLines(late.logPath)], [0, ['later']])
    const { logPath } = await statusOf(daemon, writing)
    renameSync(logPath, `${logPath}.1`)
    await daemon.call('ReopenContainerLog', { containerId: writing })
    await eventually('lines in the new file', () => logLines(logPath).length > 100)
    await daemon.call('StopContainer', { containerId: writing, timeout: '0' })
    assertNumbered([...logLines(`${logPath}.1`), ...logLines(logPath)])

    const { url } = await daemon.call('Attach', {
      containerId: echoing,
      stdin: true,
      stdout: true,
    })
    const client = await connectSpdy(url, ['v4.channel.k8s.io'])
    await client.open({ streamtype: 'error' })
    const stdin = await client.open({ streamtype: 'stdin' })
    const stdout = await client.open({ streamtype: 'stdout' })
    client.write(stdin, 'attached\n')
    await eventually('its answer', () => client.text(stdout) === 'attached\n')
    client.socket.destroy()

    const absent = await daemon.call('Exec', {
      containerId: echoing,
      cmd: ['/no/such/program'],
      stdout: true,
    })
    const other = await connectSpdy(absent.url, ['v4.channel.k8s.io'])
    await other.open({ streamtype: 'error' })
    await other.open({ streamtype: 'stdout' })
    await eventually('a line of the log that says why', () =>
      /WARN +stream method=Exec subject=\S+ error=.*\/no\/such\/program/.test(daemon.log),
    )
    other.socket.destroy()

    await daemon.call('StopContainer', { containerId: running, timeout: '0' })
    assert.is((await statusOf(daemon, running)).exitCode, 137)
    await daemon.call('RemoveContainer', { containerId: failed })
    assert.is((await failure(statusOf(daemon, failed))).code, NOT_FOUND)
    for (const each of [pod, host, stopped])
      await daemon.call('RemovePodSandbox', { podSandboxId: each.id })
    assert.equal(await truth(), { listed: [], pods: [], containersListed: [], containers: [] })
    assert.is(network.leases().size, 0)
  })
}

test('what ends while no daemon is there: code, reason, times and every line', async () => {
  const pod = await runPod(daemon)
  const quick = await runContainer(daemon, pod, ['probe', 'lines', '600', '300'])
  const trapped = await runContainer(daemon, pod, ['probe', 'trap', '1000'], {
    stopSignal: 'SIGNAL_SIGUSR2',
  })
  const { startedAt, logPath } = await statusOf(daemon, quick)
  await daemon.end('SIGKILL')
  const status = JSON.parse(
    readFileSync(join(daemon.berth.state, 'pods', pod.id, 'status.json'), 'utf8'),
  )
  process.kill(status.containers[trapped].pid, 'SIGUSR2')
  const exitFile = (id: string) =>
    join(daemon.berth.root, 'pods', pod.id, 'containers', id, 'exit.json')
  await eventually(
    'both have ended',
    () => existsSync(exitFile(quick)) && existsSync(exitFile(trapped)),
  )
  const between = BigInt(Date.now()) * 1_000_000n
  await daemon.start()
  // A kubelet with EventedPLEG takes no status that is older than the one it has.
  const { timestamp } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
  assert.ok(BigInt(timestamp) > between)
  const ended = await statusOf(daemon, quick)
  assert.equal(
    [ended.state, ended.exitCode, ended.reason, ended.startedAt],
    ['CONTAINER_EXITED', 0, 'Completed', startedAt],
  )
  assert.ok(BigInt(ended.finishedAt) > BigInt(startedAt) && BigInt(ended.finishedAt) <= between)
  const lines = logLines(logPath)
  assert.is(lines.length, 600)
  assertNumbered(lines)
  const other = await statusOf(daemon, trapped)
  assert.equal([other.exitCode, other.reason], [3, 'Error'])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('an OOM record is told as OOMKilled', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'kill-self', '9'])
  await exited(daemon, id)
  await daemon.end('SIGKILL')
  const path = join(daemon.berth.root, 'pods', pod.id, 'containers', id, 'exit.json')
  // What the monitor writes where the host has a memory controller (test/vm shows it).
  const record = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify({ ...record, oomKilled: true }))
  await daemon.start()
  const status = await statusOf(daemon, id)
  assert.equal([status.exitCode, status.reason], [137, 'OOMKilled'])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

for (const when of ['up', 'down'] as const) {
  test(`a monitor is killed while the daemon is ${when}: its pod is not ready, its containers are lost`, async () => {
    const pod = await runPod(daemon, {
      linux: { securityContext: { namespaceOptions: { network: 'POD', pid: 'POD', ipc: 'POD' } } },
    })
    const other = await runPod(daemon)
    const own = { linux: { securityContext: { namespaceOptions: { pid: 'POD' as const } } } }
    const running = await runContainer(daemon, pod, ['probe', 'sleep', '1000'], own)
    const done = await runContainer(daemon, pod, ['probe', 'exit', '5'], own)
    const { containerId: created } = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(['probe', 'true'], own),
    })
    const { startedAt } = await statusOf(daemon, running)
    await exited(daemon, done)
    if (when === 'down') await daemon.end('SIGKILL')
    await killMonitor(pod.id)
    if (when === 'down') await daemon.start()
    await eventually('it is told', async () => (await stateOf(pod.id)) === 'SANDBOX_NOTREADY')
    const lost = await exited(daemon, running)
    assert.equal([lost.exitCode, lost.reason], [255, 'Unknown'])
    assert.match(lost.message, /monitor was killed/)
    // To the moment before the start where only the start's own mark is left of it.
    const early = BigInt(startedAt) - BigInt(lost.startedAt)
    assert.ok(early >= 0n && early < 10_000_000_000n, String(early))
    assert.is((await statusOf(daemon, done)).exitCode, 5)
    assert.is((await statusOf(daemon, created)).state, 'CONTAINER_CREATED')
    assert.match(
      (await failure(daemon.call('StartContainer', { containerId: created }))).text,
      /not ready/,
    )
    assert.is(await stateOf(other.id), 'SANDBOX_READY')
    for (const id of [running, pod.id])
      await eventually(
        `the cgroup of ${id} is gone`,
        () => !existsSync(join(cgroupRoot(), 'berth', id)),
      )
    // As the kubelet does: the next attempt beside what is left of the first.
    const next = { ...pod.config, metadata: { ...pod.config.metadata, attempt: 1 } }
    const { podSandboxId } = await daemon.call('RunPodSandbox', { config: next })
    for (const id of [podSandboxId, pod.id, other.id])
      await daemon.call('RemovePodSandbox', { podSandboxId: id })
    assert.is(network.leases().size, 0)
  })
}

test('SIGTERM with a client that listens to events: the daemon does not wait for it', async () => {
  const stream = daemon.client.stream('GetContainerEvents')
  stream.on('error', () => {})
  let events = 0
  stream.on('data', () => events++)
  const ended = new Promise((resolve) => stream.once('end', resolve))
  await eventually('the subscription', async () => {
    const pod = await runPod(daemon)
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
    return events > 0
  })
  const before = performance.now()
  await daemon.end('SIGTERM')
  await ended
  // Half of the time that calls under way are given.
  assert.ok(performance.now() - before < 2500)
  await daemon.start()
})

test('the state directory is lost, as by a reboot: all is listed as ended, can be removed, and the network is given back', async () => {
  const pods = await Promise.all([runPod(daemon, ownNetwork), runPod(daemon)])
  const running = await Promise.all(
    pods.map((pod) => runContainer(daemon, pod, ['probe', 'sleep', '1000'])),
  )
  const before = await truth()
  assert.is(network.leases().size, 1)
  await daemon.end('SIGKILL')
  for (const { id } of pods) await killMonitor(id)
  rmSync(daemon.berth.state, { recursive: true })
  await daemon.start()
  const after = await truth()
  assert.equal(
    after.listed,
    before.listed.map((pod) => ({ ...pod, state: 'SANDBOX_NOTREADY' })),
  )
  for (const id of running) {
    const status = await statusOf(daemon, id)
    assert.equal(
      [status.state, status.exitCode, status.reason],
      ['CONTAINER_EXITED', 255, 'Unknown'],
    )
  }
  await eventually('the address is given back', () => network.leases().size === 0)
  for (const { id } of pods) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('the state directory is removed while pods run: what nobody can reach any more is ended, and its monitor', async () => {
  const pod = await runPod(daemon, ownNetwork)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const monitor = monitorPid(pod.id)
  await daemon.end('SIGKILL')
  rmSync(daemon.berth.state, { recursive: true })
  await daemon.start()
  assert.is(await stateOf(pod.id), 'SANDBOX_NOTREADY')
  assert.is((await statusOf(daemon, id)).state, 'CONTAINER_EXITED')
  await eventually('the monitor is gone', () => !lives(monitor))
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a client that asks again after a kill has one pod and one container of a name', async () => {
  const config = podConfig(daemon, { labels: { a: '1', b: '2' }, ...ownNetwork })
  const shuffled = { ...config, labels: { b: '2', a: '1' } }
  for (let ms = 0; ms <= 200; ms += 20) {
    const lost = daemon.call('RunPodSandbox', { config }).catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, ms))
    await daemon.end('SIGKILL')
    await lost
    await daemon.start()
    const { items } = await daemon.call('ListPodSandbox')
    assert.ok(items.length <= 1)
    const { podSandboxId } = await daemon.call('RunPodSandbox', { config: shuffled })
    if (items[0]) assert.is(items[0].id, podSandboxId)
    assert.is((await daemon.call('ListPodSandbox')).items.length, 1)
    await eventually('one address', () => network.leases().size === 1)

    const container = containerConfig(['probe', 'sleep', '1000'], { labels: { a: '1', b: '2' } })
    const lostToo = daemon
      .call('CreateContainer', { podSandboxId, config: container, sandboxConfig: config })
      .then(({ containerId }) => daemon.call('StartContainer', { containerId }))
      .catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, ms / 4))
    await daemon.end('SIGKILL')
    await lostToo
    await daemon.start()
    const { containerId } = await daemon.call('CreateContainer', {
      podSandboxId,
      config: { ...container, labels: { b: '2', a: '1' } },
      sandboxConfig: shuffled,
    })
    const { containers } = await daemon.call('ListContainers')
    assert.equal(
      containers.map(({ id }) => id),
      [containerId],
    )
    const status = await statusOf(daemon, containerId)
    if (status.state === 'CONTAINER_CREATED') await daemon.call('StartContainer', { containerId })
    assert.is((await statusOf(daemon, containerId)).state, 'CONTAINER_RUNNING')
    await daemon.call('RemovePodSandbox', { podSandboxId })
    assert.is(network.leases().size, 0)
  }
})

test('a stop or removal that was killed in its middle is finished', async () => {
  for (let ms = 0; ms <= 60; ms += 10) {
    for (const name of ['StopPodSandbox', 'RemovePodSandbox'] as const) {
      const pod = await runPod(daemon, ownNetwork)
      for (let i = 0; i < 2; i++) await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
      const lost = daemon.call(name, { podSandboxId: pod.id }).catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, ms))
      await daemon.end('SIGKILL')
      await lost
      await daemon.start()
      if (existsSync(join(daemon.berth.root, 'pods', pod.id, 'stopped')))
        await eventually('it is stopped by the next daemon', () => network.leases().size === 0)
      await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
      assert.equal((await daemon.call('ListContainers')).containers, [])
      await eventually('no address', () => network.leases().size === 0)
    }
  }
  assert.equal(readdirSync(join(daemon.berth.root, 'pods')), [])
  assert.equal(readdirSync(join(daemon.berth.state, 'pods')), [])
  assert.equal(readdirSync(join(daemon.berth.root, 'pod-networks')), [])
})

needing(
  test,
  'cgroup:hugetlb',
  'file:/sys/kernel/mm/hugepages',
)('a change of limits that was killed in its middle is finished', async () => {
  const [before, after] = [String(4 * 2 ** 20), String(8 * 2 ** 20)]
  const limits = (limit: string) => ({ hugepageLimits: [{ pageSize: '2MB', limit }] })
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  await daemon.call('UpdateContainerResources', { containerId: id, linux: limits(before) })
  const { info } = await daemon.call('ContainerStatus', { containerId: id, verbose: true })
  const file = join(JSON.parse(info['info'] ?? '').cgroup, 'hugetlb.2MB.max')
  assert.is(readFileSync(file, 'utf8').trim(), before)
  // As it is between its first step and its second.
  const path = join(daemon.berth.root, 'pods', pod.id, 'containers', id, 'record.json')
  const record = JSON.parse(readFileSync(path, 'utf8'))
  assert.is(record.isUpdating, undefined)
  await daemon.end('SIGKILL')
  Object.assign(record.resources, limits(after))
  writeFileSync(path, JSON.stringify({ ...record, isUpdating: true }))
  await daemon.start()
  assert.is(readFileSync(file, 'utf8').trim(), after)
  assert.is((await statusOf(daemon, id)).resources?.linux?.hugepageLimits[0]?.limit, after)
  assert.is(JSON.parse(readFileSync(path, 'utf8')).isUpdating, undefined)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a removal that is killed while its files go leaves no cgroup that came with the pod', async () => {
  const cgroupParent = `/berth-test-${process.pid}`
  const pod = await runPod(daemon, { linux: { cgroupParent } })
  await exited(daemon, await runContainer(daemon, pod, ['probe', 'true']))
  assert.ok(existsSync(join(cgroupRoot(), cgroupParent)))
  // What cannot be removed.
  const pods = join(daemon.berth.root, 'pods')
  const mounted = join(pods, pod.id, 'mount')
  mkdirSync(mounted)
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', mounted])
  await failure(daemon.call('RemovePodSandbox', { podSandboxId: pod.id }))
  for (let i = 0; i < 2; i++) {
    await daemon.end('SIGKILL')
    await daemon.start()
    assert.equal((await daemon.call('ListPodSandbox')).items, [])
    assert.not(existsSync(join(cgroupRoot(), cgroupParent)))
    assert.match(daemon.log, /what is left of a removed pod stays at .*EBUSY/)
    // Its name does not grow.
    assert.match(readdirSync(pods).join(), new RegExp(`^${pod.id}\\.[0-9a-f]{8}\\.trash$`))
  }
  await daemon.end()
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  const [, left = ''] = new RegExp(` (${pods}/\\S+/mount) `).exec(mounts) ?? []
  execFileSync('umount', [left])
  await daemon.start()
  assert.equal(readdirSync(pods), [])
})

test('a pod that is made while the networks of those before are given back keeps its own', async () => {
  const dead = await runPod(daemon, ownNetwork)
  await daemon.end('SIGKILL')
  const live = join(daemon.berth.state, 'pods', dead.id)
  process.kill(JSON.parse(readFileSync(join(live, 'status.json'), 'utf8')).monitor, 'SIGKILL')
  const records = join(daemon.berth.root, 'pod-networks')
  // Of a pod that nobody knows.
  const debris = join(records, `${'f'.repeat(64)}@eth0.json`)
  copyFileSync(join(records, `${dead.id}@eth0.json`), debris)
  // Of a daemon that was killed while it wrote it.
  writeFileSync(join(records, `${'e'.repeat(64)}@eth0.json.tmp-0123456789ab`), '')
  const file = (name: string): string => join(daemon.berth.directory, name)
  const until = (name: string): string => `while [ ! -e ${file(name)} ]; do sleep 0.02; done`
  const plugin = join(network.plugins, 'fake')
  const script = readFileSync(plugin, 'utf8')
  const slow = script
    .replace('\nADD)', `\nADD)\n  touch ${file('begun')}\n  ${until('add')}`)
    .replace('\nDEL)', `\nDEL)\n  ${until('del')}`)
  writeFileSync(plugin, slow)
  await daemon.start()
  const making = runPod(daemon, ownNetwork)
  await eventually('its plugin works', () => existsSync(file('begun')))
  writeFileSync(file('del'), '')
  await eventually('the debris is gone', () => !existsSync(debris))
  writeFileSync(file('add'), '')
  const { id } = await making
  await delay(200)
  assert.equal([...network.leases().values()], [id])
  assert.equal(readdirSync(records), [`${id}@eth0.json`])
  writeFileSync(plugin, script)
  for (const podSandboxId of [dead.id, id]) await daemon.call('RemovePodSandbox', { podSandboxId })
})

test('nothing is left behind', async () => {
  assert.ok(!existsSync(join(daemon.berth.root, 'quarantine')))
  await daemon.destroy()
  await clean()
})

test.run()
