/** The cgroup driver systemd, under a real one as PID 1: what the kubelet of such a machine asks for, and systemd in every mood. */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  exited,
  failure,
  podConfig,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { processesOf, traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup:memory', 'cgroup:pids', 'file:/run/systemd/system')

const MIB = 1024 * 1024
const INVALID_ARGUMENT = 3
const ROOT = '/sys/fs/cgroup'
const QOS = '/kubepods.slice/kubepods-burstable.slice'

const daemon = new CriDaemon('', 'warn', 'driver = "systemd"')
const clean = traces({ roots: [daemon.berth.directory], withinMs: 20_000 })
let count = 0

/** As the kubelet writes it: the UID's dashes are underscores, for a dash is a level. */
const podSlice = (): string => `${QOS}/kubepods-burstable-pod0c6f_${++count}.slice`

const podIn = (cgroupParent: string, change: Parameters<typeof runPod>[1] = {}) =>
  runPod(daemon, { ...change, linux: { cgroupParent, ...change.linux } })

const text = (...path: string[]): string => readFileSync(join(ROOT, ...path), 'utf8').trim()
const cgroupOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().replace('0::', '')
const systemctl = (...args: string[]): string =>
  execFileSync('systemctl', args, { encoding: 'utf8' })
const later = promisify(execFile)

const scopes = (): string[] =>
  systemctl('list-units', '--all', '--plain', '--no-legend', 'berth-pod-*')
    .split('\n')
    .filter(Boolean)

/** systemd may meet groups that go away under its hands, and says so. */
const killUnit = (unit: string): Promise<unknown> =>
  later('systemctl', ['kill', '--signal=SIGKILL', unit]).catch(() => {})

const collected = (): Promise<unknown> =>
  eventually('systemd has collected the scopes', () => scopes().length === 0, {
    withinMs: 30_000,
    everyMs: 200,
  })

const pidOf = async (id: string): Promise<number> => {
  const { info } = await daemon.call('ContainerStatus', { containerId: id, verbose: true })
  return (JSON.parse(info['info'] ?? '{}') as { pid: number }).pid
}

async function stopAndRemove(...ids: string[]): Promise<void> {
  for (const podSandboxId of ids) {
    await daemon.call('StopPodSandbox', { podSandboxId })
    await daemon.call('RemovePodSandbox', { podSandboxId })
  }
}

test('where systemd does not run the machine, the daemon says so', async () => {
  const serve = `exec ${process.execPath} ${REPOSITORY}/bin/berth.cjs serve --config ${daemon.config} --socket ${daemon.socket}`
  const hidden = later(
    'unshare',
    ['--mount', 'sh', '-c', `mount -t tmpfs none /run/systemd && ${serve}`],
    { env: daemon.berth.env() as NodeJS.ProcessEnv, timeout: 30_000 },
  )
  const error = await hidden.then(
    () => undefined,
    (failed: { code: number; stderr: string }) => failed,
  )
  assert.is(error?.code, 125)
  assert.match(error?.stderr ?? '', /needs a machine that systemd runs/)
})

test('the kubelet is told the driver', async () => {
  await daemon.loadHello()
  await daemon.start()
  const { linux } = await daemon.call('RuntimeConfig')
  assert.is(linux?.cgroupDriver, 'SYSTEMD')
})

test('a container is in a scope of the slice that the kubelet names, with its limits', async () => {
  const slice = podSlice()
  const pod = await podIn(slice)
  const scope = `berth-pod-${pod.id.slice(0, 32)}.scope`
  const id = await runContainer(daemon, pod, ['probe', 'sleep'], {
    linux: {
      resources: {
        memoryLimitInBytes: String(64 * MIB),
        cpuQuota: '50000',
        cpuPeriod: '100000',
        cpuShares: '512',
        unified: { 'pids.max': '40' },
      },
    },
  })
  const path = cgroupOf(await pidOf(id))
  assert.is(path, `${slice}/${scope}/${id}`)
  assert.is(text(path, 'memory.max'), String(64 * MIB))
  assert.is(text(path, 'cpu.max'), '50000 100000')
  assert.is(text(path, 'pids.max'), '40')
  assert.is(text(path, 'cgroup.procs').split('\n').length, 1)

  const show = systemctl('show', scope, '-p', 'Slice,Delegate,ActiveState,CollectMode,Description')
  assert.match(show, /^Slice=kubepods-burstable-pod0c6f_\d+\.slice$/m)
  assert.match(show, /^Delegate=yes$/m)
  assert.match(show, /^ActiveState=active$/m)
  assert.match(show, /^CollectMode=inactive-or-failed$/m)
  assert.match(show, /^Description=pod test\/pod-\d+$/m)

  await daemon.call('UpdateContainerResources', {
    containerId: id,
    linux: { memoryLimitInBytes: String(48 * MIB) },
  })
  for (const command of ['daemon-reload', 'daemon-reexec']) {
    systemctl(command)
    assert.is(text(path, 'memory.max'), String(48 * MIB), command)
    assert.is(text(path, 'cpu.max'), '50000 100000', command)
    assert.is(cgroupOf(await pidOf(id)), path, command)
  }

  const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
  assert.is(status?.state, 'SANDBOX_READY')
  const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
  assert.ok(Number(stats?.linux?.memory?.usageBytes?.value) > 0)

  await stopAndRemove(pod.id)
  await collected()
  assert.is(existsSync(join(ROOT, slice, scope)), false)
})

test('an OOM kill is told each time, and systemd ends nothing by itself for it', async () => {
  const pod = await podIn(podSlice())
  const limit = { linux: { resources: { memoryLimitInBytes: String(24 * MIB) } } }
  const other = await runContainer(daemon, pod, ['probe', 'sleep'])
  for (let i = 0; i < 8; i++) {
    const id = await runContainer(daemon, pod, ['probe', 'memory', String(64 * MIB)], limit)
    const { reason, exitCode } = await exited(daemon, id)
    assert.equal([reason, exitCode], ['OOMKilled', 137], `time ${i}`)
  }
  assert.is((await statusOf(daemon, other)).state, 'CONTAINER_RUNNING')
  await stopAndRemove(pod.id)
})

test('without a parent, by its name alone, and with a shared PID namespace: all below a scope', async () => {
  const nameless = await podIn('')
  const named = await podIn('machine-some.slice', {
    linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'POD', ipc: 'POD' } } },
  })
  const id = await runContainer(daemon, nameless, ['probe', 'sleep'])
  assert.match(cgroupOf(await pidOf(id)), /^\/berth\.slice\/berth-pod-[0-9a-f]{32}\.scope\//)
  const scope = `/machine.slice/machine-some.slice/berth-pod-${named.id.slice(0, 32)}.scope`
  const pause = Number(text(scope, named.id, 'cgroup.procs'))
  assert.is(readFileSync(`/proc/${pause}/comm`, 'utf8'), 'berth-pause\n')
  await stopAndRemove(nameless.id, named.id)
})

for (const [parent, reason] of [
  ['/kubepods/burstable/pod1', /is no slice, and cgroup.driver is "systemd"/],
  ['/kubepods-pod1.slice', /is not where systemd has kubepods-pod1.slice/],
  ['/other.slice/kubepods.slice', /is not where systemd has/],
  ['/../kubepods.slice', /is not where systemd has/],
  ['a--b.slice', /no name of a systemd slice/],
  ['.slice', /no name of a systemd slice/],
  ['--uid=0.slice', /no name of a systemd slice/],
  ['a\n.slice', /no name of a systemd slice/],
  [`${'a'.repeat(300)}.slice`, /no name of a systemd slice/],
] as const) {
  test(`cgroup parent ${JSON.stringify(parent.slice(0, 40))} is refused by name`, async () => {
    const refused = await failure(
      daemon.call('RunPodSandbox', {
        config: podConfig(daemon, { linux: { cgroupParent: parent } }),
      }),
    )
    assert.is(refused.code, INVALID_ARGUMENT)
    assert.match(refused.text, reason)
  })
}

test('ten pods at once, while systemd executes itself anew', async () => {
  const making = Promise.all(Array.from({ length: 10 }, () => podIn(podSlice())))
  systemctl('daemon-reexec')
  const pods = await making
  assert.is(scopes().length, 10)
  for (const pod of pods) await runContainer(daemon, pod, ['probe', 'sleep'])
  await Promise.all(pods.map(({ id }) => stopAndRemove(id)))
  await collected()
})

test('a scope that somebody has stopped takes its containers along, and is made anew for the next', async () => {
  const slice = podSlice()
  const pod = await podIn(slice)
  const scope = `berth-pod-${pod.id.slice(0, 32)}.scope`
  const first = await runContainer(daemon, pod, ['probe', 'sleep'])
  await killUnit(scope)
  assert.is((await exited(daemon, first)).exitCode, 137)
  await collected()
  const second = await runContainer(daemon, pod, ['probe', 'sleep'])
  assert.is(cgroupOf(await pidOf(second)), `${slice}/${scope}/${second}`)
  await stopAndRemove(pod.id)
})

test('a monitor that was killed leaves no container and no scope', async () => {
  const pod = await podIn(podSlice())
  const id = await runContainer(daemon, pod, ['probe', 'sleep'])
  const monitor = processesOf([join(daemon.berth.state, 'pods', pod.id)]).find(
    (pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'berth-monitor\n',
  )
  assert.ok(monitor)
  process.kill(monitor, 'SIGKILL')
  assert.is((await exited(daemon, id)).state, 'CONTAINER_EXITED')
  await collected()
  await stopAndRemove(pod.id)
})

test('kubelet may stop the slice before the pod: all of it ends, and the pod is still to be removed', async () => {
  const slice = podSlice()
  const pod = await podIn(slice)
  const id = await runContainer(daemon, pod, ['probe', 'sleep'])
  const unit = slice.split('/').at(-1) ?? ''
  systemctl('stop', '--no-block', unit)
  // The program does not end at SIGTERM: this is what systemd does in the end.
  await killUnit(unit)
  await exited(daemon, id)
  await stopAndRemove(pod.id)
})

test('the daemon killed at any moment of making pods leaves scopes of none but its pods', async () => {
  const slice = podSlice()
  for (const ms of [20, 60, 100, 140, 200, 300]) {
    const call = podIn(slice).catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, ms))
    await daemon.end('SIGKILL')
    await daemon.start()
    await call
  }
  const { items } = await daemon.call('ListPodSandbox')
  const expected = items.map(({ id }) => `berth-pod-${id.slice(0, 32)}.scope`).sort()
  const named = () => scopes().map((line) => line.split(/\s+/)[0] ?? '')
  await eventually('the others are gone', () => named().sort().join() === expected.join(), {
    withinMs: 30_000,
    everyMs: 200,
  })
  await stopAndRemove(...items.map(({ id }) => id))
})

test('pods and containers of a daemon that was killed are the next one’s', async () => {
  const slice = podSlice()
  const pod = await podIn(slice)
  const limit = { linux: { resources: { memoryLimitInBytes: String(24 * MIB) } } }
  const sleeping = await runContainer(daemon, pod, ['probe', 'sleep'], limit)
  const pid = await pidOf(sleeping)
  await daemon.end('SIGKILL')
  systemctl('daemon-reexec')
  await daemon.start()
  assert.is(await pidOf(sleeping), pid)
  const hog = await daemon.call('ExecSync', {
    containerId: sleeping,
    cmd: ['/bin/probe', 'memory', String(64 * MIB)],
    timeout: '20',
  })
  assert.is(hog.exitCode, 137)
  const next = await runContainer(daemon, pod, ['probe', 'sleep'])
  assert.match(cgroupOf(await pidOf(next)), new RegExp(`^${slice}/berth-pod-`))
  await stopAndRemove(pod.id)
})

test('nothing of it is left', async () => {
  await daemon.end()
  await collected()
  // A monitor whose daemon was killed before it spoke to it ends by itself after 30 s (docs/native.md).
  await eventually(
    'its processes have ended',
    () => processesOf([daemon.berth.directory]).length === 0,
    { withinMs: 40_000 },
  )
  assert.equal(
    readdirSync(join(ROOT, QOS), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.scope'),
    ),
    [],
  )
  // Slices are whose who names them: here the test's.
  systemctl('stop', 'kubepods.slice', 'machine-some.slice', 'berth.slice')
  await daemon.destroy()
  await clean()
})

test.run()
