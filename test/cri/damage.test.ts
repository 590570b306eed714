/** Damaged files, full disks and monitors that hang keep neither the daemon from starting nor the other pods from being there. */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
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
  logLines,
  podConfig,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { cgroupRoot, needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'program:mount')

const DATA_LOSS = 15
/** Room for the image and some containers. */
const DISK_SIZE = '8m'

const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const clean = traces({ roots: [daemon.berth.directory] })

const podFile = (pod: string, ...rest: string[]): string =>
  join(daemon.berth.root, 'pods', pod, ...rest)
const fileOf = (pod: string, id: string, name: string): string =>
  podFile(pod, 'containers', id, name)
const stateFile = (pod: string, name: string): string => join(daemon.berth.state, 'pods', pod, name)

interface Running {
  pod: Awaited<ReturnType<typeof runPod>>
  id: string
}

async function running(): Promise<Running> {
  const pod = await runPod(daemon, ownNetwork)
  return { pod, id: await runContainer(daemon, pod, ['probe', 'sleep', '1000']) }
}

const pids = (of: Running): { monitor: number; container: number } => {
  const status = JSON.parse(readFileSync(stateFile(of.pod.id, 'status.json'), 'utf8'))
  return { monitor: status.monitor, container: status.containers[of.id].pid }
}

async function damage(): Promise<string> {
  const { status } = await daemon.call('Status')
  const found = status?.conditions.find(({ type }) => type === 'BerthHasNoDamage')
  return found?.status ? '' : (found?.message ?? 'no condition')
}

const remove = (...all: Running[]): Promise<unknown> =>
  Promise.all(all.map(({ pod }) => daemon.call('RemovePodSandbox', { podSandboxId: pod.id })))

/** Ways in which a file can be wrong. */
const WRONG: readonly (readonly [string, (path: string) => void])[] = [
  ['truncated', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2))],
  ['empty', (path) => truncateSync(path, 0)],
  ['null', (path) => writeFileSync(path, 'null')],
  ['a number', (path) => writeFileSync(path, '5')],
  ['a list', (path) => writeFileSync(path, '[]')],
  ['of another kind inside', (path) => writeFileSync(path, changed(path))],
  ['huge', (path) => truncateSync(path, 200 * 1024 ** 3)],
  [
    'a directory',
    (path) => {
      rmSync(path)
      mkdirSync(path)
    },
  ],
]

/** Every value but the id becomes a number, or a text where it was one. */
function changed(path: string): string {
  const value = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
  return JSON.stringify(
    Object.fromEntries(
      Object.entries(value).map(([key, each]) => {
        if (key === 'id') return [key, each]
        return [key, typeof each === 'number' ? 'x' : 7]
      }),
    ),
  )
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

for (const [how, spoil] of WRONG) {
  test(`a pod's record that is ${how}: the pod is put aside and ended, the others are there`, async () => {
    const good = await running()
    const bad = await running()
    const { monitor, container } = pids(bad)
    await daemon.end('SIGKILL')
    spoil(podFile(bad.pod.id, 'record.json'))
    daemon.log = ''
    await daemon.start()
    const { items } = await daemon.call('ListPodSandbox')
    assert.equal(
      items.map(({ id, state }) => [id, state]),
      [[good.pod.id, 'SANDBOX_READY']],
    )
    assert.is((await statusOf(daemon, good.id)).state, 'CONTAINER_RUNNING')
    assert.match(await damage(), new RegExp(bad.pod.id))
    assert.match(daemon.log, new RegExp(bad.pod.id))
    assert.ok(
      readdirSync(join(daemon.berth.root, 'quarantine')).some((n) => n.startsWith(bad.pod.id)),
    )
    assert.not(lives(monitor))
    assert.not(lives(container))
    assert.not(existsSync(join(cgroupRoot(), 'berth', bad.id)))
    await eventually('its address is given back', () => network.leases().size === 1)
    // Its name is free.
    await daemon.call('RunPodSandbox', { config: bad.pod.config })
    await removeAll()
  })
}

test.after.each(async () => {
  // What a failed claim has left must not fail the next one.
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items)
    await daemon.call('RemovePodSandbox', { podSandboxId: id }).catch(() => {})
})

async function removeAll(): Promise<void> {
  const { items } = await daemon.call('ListPodSandbox')
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
  assert.is(network.leases().size, 0)
  assert.equal(readdirSync(join(daemon.berth.root, 'pods')), [])
  assert.equal(readdirSync(join(daemon.berth.state, 'pods')), [])
}

test('a damaged record whose monitor was killed, too: nothing of the pod goes on', async () => {
  const bad = await running()
  const { monitor, container } = pids(bad)
  await daemon.end('SIGKILL')
  process.kill(monitor, 'SIGKILL')
  truncateSync(podFile(bad.pod.id, 'record.json'), 0)
  await daemon.start()
  await eventually('the program is ended', () => !lives(container))
  assert.not(existsSync(join(cgroupRoot(), 'berth', bad.id)))
  assert.equal((await daemon.call('ListPodSandbox')).items, [])
  await removeAll()
})

test("a container's record that is damaged: it is put aside and ended, its pod goes on", async () => {
  const pod = await runPod(daemon, ownNetwork)
  const good = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const bad: string[] = []
  for (const _ of WRONG) bad.push(await runContainer(daemon, pod, ['probe', 'sleep', '1000']))
  await daemon.end('SIGKILL')
  for (const [i, [, spoil]] of WRONG.entries()) spoil(fileOf(pod.id, bad[i] ?? '', 'record.json'))
  await daemon.start()
  const { containers } = await daemon.call('ListContainers')
  assert.equal(
    containers.map(({ id, state }) => [id, state]),
    [[good, 'CONTAINER_RUNNING']],
  )
  const told = await damage()
  for (const id of bad) {
    assert.match(told, new RegExp(id))
    assert.not(existsSync(join(cgroupRoot(), 'berth', id)))
  }
  assert.is((await daemon.call('ListPodSandbox')).items[0]?.state, 'SANDBOX_READY')
  await runContainer(daemon, pod, ['probe', 'true'])
  await removeAll()
})

test('files beside a record that are damaged: what can be known without them is, the rest is told', async () => {
  const pod = await runPod(daemon, ownNetwork)
  const names = ['config.json', 'run.json', 'exit.json']
  const all: { id: string; name: string; how: string }[] = []
  for (const name of names) {
    for (const [how, spoil] of WRONG) {
      const ends = name === 'exit.json'
      const id = await runContainer(
        daemon,
        pod,
        ends ? ['probe', 'exit', '9'] : ['probe', 'sleep', '1000'],
      )
      if (ends) await exited(daemon, id)
      all.push({ id, name, how })
      spoil(fileOf(pod.id, id, name))
    }
  }
  await daemon.end('SIGKILL')
  await daemon.start()
  const told = await damage()
  for (const { id, name, how } of all) {
    const said = `${name} ${how}`
    assert.match(told, new RegExp(`${id}/${name}`), said)
    const status = await statusOf(daemon, id)
    if (name === 'exit.json') {
      // Its monitor still knows.
      assert.equal(
        [status.state, status.exitCode, status.reason],
        ['CONTAINER_EXITED', 9, 'Error'],
        said,
      )
      continue
    }
    assert.is(status.state, 'CONTAINER_RUNNING', said)
    const execution = daemon.call('ExecSync', { containerId: id, cmd: ['probe', 'echo', 'x'] })
    if (name === 'config.json') assert.is((await failure(execution)).code, DATA_LOSS, said)
    else assert.is((await execution).stdout.toString(), 'x\n', said)
    await daemon.call('StopContainer', { containerId: id, timeout: '0' })
    assert.is((await statusOf(daemon, id)).exitCode, 137, said)
  }
  for (const { id } of all) {
    await daemon.call('RemoveContainer', { containerId: id })
    assert.not(existsSync(join(cgroupRoot(), 'berth', id)))
  }
  // A record that was written again is told no more.
  await daemon.end()
  await daemon.start()
  assert.is(await damage(), '')
  await removeAll()
})

test('a damaged exit record without a monitor: exited with a code that is not known', async () => {
  const one = await running()
  const { monitor } = pids(one)
  await daemon.call('StopContainer', { containerId: one.id, timeout: '0' })
  await daemon.end('SIGKILL')
  process.kill(monitor, 'SIGKILL')
  writeFileSync(fileOf(one.pod.id, one.id, 'exit.json'), '{"id":')
  await daemon.start()
  const status = await statusOf(daemon, one.id)
  assert.equal([status.state, status.exitCode, status.reason], ['CONTAINER_EXITED', 255, 'Unknown'])
  await removeAll()
})

test('foreign files among the pods and containers are let be or told, and keep nothing from starting', async () => {
  const one = await running()
  await daemon.end()
  const foreign = podFile('lost+found')
  mkdirSync(foreign)
  writeFileSync(podFile('f'.repeat(64)), 'a file where a directory is expected')
  await daemon.start()
  assert.is((await statusOf(daemon, one.id)).state, 'CONTAINER_RUNNING')
  rmSync(foreign, { recursive: true })
  rmSync(podFile('f'.repeat(64)), { force: true })
  await removeAll()
})

test('a damaged network record: the daemon starts, and the pod can be removed', async () => {
  const one = await running()
  await daemon.end('SIGKILL')
  const records = join(daemon.berth.root, 'pod-networks')
  for (const name of readdirSync(records)) truncateSync(join(records, name), 10)
  await daemon.start()
  assert.match(await damage(), new RegExp(one.pod.id.slice(0, 12)))
  assert.is((await statusOf(daemon, one.id)).state, 'CONTAINER_RUNNING')
  await remove(one)
  assert.is(network.leases().size, 0)
  for (const name of readdirSync(records)) rmSync(join(records, name))
})

test('no CNI configuration at the start: pods are there, with their addresses, and can be removed', async () => {
  const one = await running()
  const { status: before } = await daemon.call('PodSandboxStatus', { podSandboxId: one.pod.id })
  await daemon.end('SIGKILL')
  renameSync(daemon.netConf, `${daemon.netConf}.away`)
  await daemon.start()
  const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: one.pod.id })
  assert.equal(status, before)
  const { status: node } = await daemon.call('Status')
  assert.is(node?.conditions.find(({ type }) => type === 'NetworkReady')?.status, false)
  const refused = daemon.call('RunPodSandbox', { config: podConfig(daemon, ownNetwork) })
  assert.match((await failure(refused)).text, /no CNI network/)
  await runPod(daemon)
  await removeAll()
  renameSync(`${daemon.netConf}.away`, daemon.netConf)
  await daemon.end()
  await daemon.start()
})

test('a plugin that hangs does not keep the daemon from starting', async () => {
  const one = await running()
  const { monitor } = pids(one)
  await daemon.end('SIGKILL')
  process.kill(monitor, 'SIGKILL')
  const plugin = join(daemon.berth.directory, 'plugins', 'fake')
  const script = readFileSync(plugin, 'utf8')
  const go = join(daemon.berth.directory, 'go')
  writeFileSync(plugin, `#!/bin/sh\nuntil [ -e ${go} ]; do sleep 0.05; done\nexit 1\n`)
  await daemon.start()
  assert.is((await daemon.call('ListPodSandbox')).items[0]?.state, 'SANDBOX_NOTREADY')
  writeFileSync(plugin, script)
  writeFileSync(go, '')
  await removeAll()
})

test('a plugin that goes on when its daemon was killed leaves no address', async () => {
  const plugin = join(daemon.berth.directory, 'plugins', 'fake')
  const script = readFileSync(plugin, 'utf8')
  const begun = join(daemon.berth.directory, 'begun')
  writeFileSync(plugin, script.replace('\nADD)', `\nADD)\n  touch ${begun}\n  sleep 3`))
  const lost = failure(daemon.call('RunPodSandbox', { config: podConfig(daemon, ownNetwork) }))
  await eventually('ADD is under way', () => existsSync(begun))
  await daemon.end('SIGKILL')
  await lost
  await daemon.start()
  const records = join(daemon.berth.root, 'pod-networks')
  await eventually('its record is gone', () => readdirSync(records).length === 0)
  // What it would have made after its sleep.
  await new Promise((resolve) => setTimeout(resolve, 4000))
  assert.is(network.leases().size, 0)
  writeFileSync(plugin, script)
  await removeAll()
})

test('a monitor that is frozen: the daemon starts, others are not held up, and its pod can be ended', async () => {
  const good = await running()
  const frozen = await running()
  const thawed = await running()
  await daemon.end('SIGKILL')
  const { monitor, container } = pids(frozen)
  process.kill(monitor, 'SIGSTOP')
  process.kill(pids(thawed).monitor, 'SIGSTOP')
  const begin = performance.now()
  await daemon.start(60_000)
  // Each has 10 s to answer, all at once.
  assert.ok(performance.now() - begin < 19_000)
  for (const { id, pod } of [good, frozen, thawed]) {
    assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
    const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
    assert.is(status?.state, 'SANDBOX_READY')
  }
  const stop = daemon.call('StopPodSandbox', { podSandboxId: frozen.pod.id })
  const hung = failure(daemon.call('ExecSync', { containerId: frozen.id, cmd: ['probe', 'true'] }))
  const quick = performance.now()
  await daemon.call('ExecSync', { containerId: good.id, cmd: ['probe', 'true'] })
  await remove(good)
  assert.ok(performance.now() - quick < 8000)

  process.kill(pids(thawed).monitor, 'SIGCONT')
  await daemon.call('ExecSync', { containerId: thawed.id, cmd: ['probe', 'true'] })
  await daemon.call('StopContainer', { containerId: thawed.id, timeout: '0' })
  assert.is((await statusOf(daemon, thawed.id)).exitCode, 137)

  assert.match((await hung).text, /monitor/)
  await stop
  assert.not(lives(monitor))
  assert.not(lives(container))
  const lost = await statusOf(daemon, frozen.id)
  assert.equal([lost.state, lost.exitCode], ['CONTAINER_EXITED', 255])
  await removeAll()
})

test('a pod that was being made under a monitor that is frozen now: the daemon starts, and kills that one', async () => {
  const one = await running()
  await daemon.end('SIGKILL')
  const { monitor } = pids(one)
  process.kill(monitor, 'SIGSTOP')
  renameSync(podFile(one.pod.id, 'record.json'), podFile(one.pod.id, 'making.json'))
  await daemon.start()
  assert.not(lives(monitor))
  assert.equal((await daemon.call('ListPodSandbox')).items, [])
  await eventually('its address is given back', () => network.leases().size === 0)
  assert.not(existsSync(join(cgroupRoot(), 'berth', one.id)))
  await removeAll()
})

test('the daemon itself is frozen for a while: nothing is lost', async () => {
  const one = await running()
  const short = await runContainer(daemon, one.pod, ['probe', 'lines', '300', '300'])
  daemon.signal('SIGSTOP')
  await eventually('it ends meanwhile', () => existsSync(fileOf(one.pod.id, short, 'exit.json')))
  daemon.signal('SIGCONT')
  const status = await exited(daemon, short)
  assert.equal([status.exitCode, logLines(status.logPath).length], [0, 300])
  await removeAll()
})

test('a full disk: at the start, and in stop, exec, log and removal', async () => {
  await daemon.end()
  const small = new CriDaemon()
  const { root } = small.berth
  mkdirSync(root)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_SIZE}`, 'tmpfs', root])
  const ballast = join(root, 'ballast')
  try {
    await small.loadHello()
    await small.start()
    const pod = await runPod(small)
    const other = await runPod(small)
    const id = await runContainer(small, pod, ['probe', 'sleep', '1000'])
    const lines = await runContainer(small, other, ['probe', 'lines', '100000', '200'])
    const lost = await runContainer(small, other, ['probe', 'sleep', '1000'])
    const before = await small.call('ListPodSandbox')
    await small.end('SIGKILL')
    const { bavail, bsize } = statfsSync(root)
    writeFileSync(ballast, Buffer.alloc(bavail * bsize))
    await small.start()
    assert.equal(
      (await small.call('ListPodSandbox')).items.map(({ id }) => id).sort(),
      before.items.map(({ id }) => id).sort(),
    )
    const out = await small.call('ExecSync', { containerId: id, cmd: ['probe', 'echo', 'x'] })
    assert.is(out.stdout.toString(), 'x\n')
    const { logPath } = await statusOf(small, lines)
    const had = logLines(logPath).length
    await eventually('the log goes on, it is on another disk', () => logLines(logPath).length > had)
    const full = small.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(['probe']),
    })
    assert.match((await failure(full)).text, /no space left/)
    assert.match((await failure(runPod(small))).text, /no space left/)
    await small.call('StopContainer', { containerId: id, timeout: '0' })
    assert.is((await statusOf(small, id)).exitCode, 137)
    // The exit record has no place; the monitor keeps it, also for the next daemon.
    await small.end('SIGKILL')
    await small.start()
    const status = await statusOf(small, id)
    assert.equal([status.state, status.exitCode], ['CONTAINER_EXITED', 137])
    const monitor = JSON.parse(
      readFileSync(join(small.berth.state, 'pods', other.id, 'status.json'), 'utf8'),
    ).monitor
    process.kill(monitor, 'SIGKILL')
    assert.is((await exited(small, lost)).exitCode, 255)
    await small.call('RemoveContainer', { containerId: id })
    await small.call('StopPodSandbox', { podSandboxId: pod.id })
    for (const each of [pod, other]) await small.call('RemovePodSandbox', { podSandboxId: each.id })
    assert.equal((await small.call('ListContainers')).containers, [])
    assert.equal(readdirSync(join(root, 'pods')), [])
    rmSync(ballast)
    const again = await runPod(small)
    await exited(small, await runContainer(small, again, ['probe', 'true']))
  } finally {
    rmSync(ballast, { force: true })
    await small.end('SIGKILL')
    const { items } = await small
      .start()
      .then(() => small.call('ListPodSandbox'))
      .catch(() => ({ items: [] }))
    for (const { id } of items) await small.call('RemovePodSandbox', { podSandboxId: id })
    await small.end()
    execFileSync('umount', ['--lazy', root])
    await small.destroy()
  }
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
