/** A monitor that hangs so long that nobody can reach it any more: its socket takes as many callers as may wait, and no more. */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../src/base/fault.ts'
import { connectMonitor, type Monitor } from '../../src/container/monitor.ts'
import { CriDaemon, exited, failure, logLines, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

interface Running {
  readonly pod: Awaited<ReturnType<typeof runPod>>
  readonly id: string
}

async function running(): Promise<Running> {
  const pod = await runPod(daemon)
  return { pod, id: await runContainer(daemon, pod, ['probe', 'sleep', '1000']) }
}

const stateOf = ({ pod }: Running): string => join(daemon.berth.state, 'pods', pod.id)

const pids = (of: Running): { monitor: number; container: number } => {
  const status = JSON.parse(readFileSync(join(stateOf(of), 'status.json'), 'utf8'))
  return { monitor: status.monitor, container: status.containers[of.id].pid }
}

/** Connects until the socket takes nobody more. */
async function fillBacklog(directory: string): Promise<Monitor[]> {
  const callers: Monitor[] = []
  for (;;) {
    try {
      callers.push(await connectMonitor(directory))
    } catch (error) {
      assert.ok(error instanceof Error && isErrno(error.cause, 'EAGAIN'), String(error))
      return callers
    }
  }
}

test('a monitor that is frozen, with as many callers waiting as can: its pod is not taken for damaged, and can be used or ended', async () => {
  await daemon.loadHello()
  await daemon.start()
  const [frozen, thawed, stuck] = [await running(), await running(), await running()]
  await daemon.end('SIGKILL')
  const callers: Monitor[] = []
  for (const one of [frozen, thawed, stuck]) {
    process.kill(pids(one).monitor, 'SIGSTOP')
    callers.push(...(await fillBacklog(stateOf(one))))
  }
  try {
    await daemon.start(60_000)
    assert.not(existsSync(join(daemon.berth.root, 'quarantine')))
    for (const { id, pod } of [frozen, thawed, stuck]) {
      assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
      const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
      assert.is(status?.state, 'SANDBOX_READY')
    }
    const { monitor, container } = pids(frozen)
    // As one that waits for a disk: no SIGKILL ends it.
    const { monitor: unkillable } = pids(stuck)
    const status = join(stateOf(stuck), 'status.json')
    writeFileSync(
      status,
      readFileSync(status, 'utf8').replace(`"monitor":${unkillable}`, '"monitor":0'),
    )
    const refused = failure(daemon.call('StopPodSandbox', { podSandboxId: stuck.pod.id }))
    const stop = daemon.call('StopPodSandbox', { podSandboxId: frozen.pod.id })
    process.kill(pids(thawed).monitor, 'SIGCONT')
    await eventually('its end is heard of again', async () => {
      await daemon.call('StopContainer', { containerId: thawed.id, timeout: '0' }).catch(() => {})
      return (await statusOf(daemon, thawed.id)).exitCode === 137
    })
    await stop
    assert.not(lives(monitor))
    assert.not(lives(container))
    assert.is((await statusOf(daemon, frozen.id)).exitCode, 255)
    assert.match((await refused).text, /does not end/)
    process.kill(unkillable, 'SIGKILL')
    await eventually('the disk answers', () => !lives(unkillable))
    await daemon.call('StopPodSandbox', { podSandboxId: stuck.pod.id })
    assert.is((await statusOf(daemon, stuck.id)).exitCode, 255)
  } finally {
    for (const caller of callers) caller.close()
  }
  for (const { pod } of [frozen, thawed, stuck])
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('a stop that could not be asked for is asked for by the next call, and does not only wait for its time', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'trap'])
  const log = (await statusOf(daemon, id)).logPath
  await eventually('it listens', () => logLines(log).length > 0)
  const { monitor } = pids({ pod, id })
  process.kill(monitor, 'SIGSTOP')
  const callers = await fillBacklog(stateOf({ pod, id }))
  const asked = failure(daemon.call('StopContainer', { containerId: id, timeout: '1000' }))
  assert.match((await asked).text, /cannot stop/)
  for (const caller of callers) caller.close()
  process.kill(monitor, 'SIGCONT')
  const again = daemon.call('StopContainer', { containerId: id, timeout: '1000' })
  await eventually('it hears of it', () => logLines(log).some((line) => /TERM/.test(line)))
  await daemon.call('StopContainer', { containerId: id, timeout: '0' })
  await again
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

/** A monitor that hangs once it has answered a first request: what callers say after that waits until `release`. */
async function hangAfterFirst(directory: string): Promise<{ release(): void; close(): void }> {
  // By the descriptor: the path is longer than a socket's may be.
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  const at = (name: string): string => `/proc/self/fd/${fd}/${name}`
  renameSync(at('ctl'), at('ctl.real'))
  const held: (() => void)[] = []
  let isHolding = true
  const server = createServer((near) => {
    const far = connect(at('ctl.real'))
    let count = 0
    near.on('data', (bytes) => {
      count++
      if (isHolding && count > 1) held.push(() => far.write(bytes))
      else far.write(bytes)
    })
    far.on('data', (bytes) => near.write(bytes))
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => {})
      one.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(at('ctl'), resolve))
  return {
    release: () => {
      isHolding = false
      for (const pass of held.splice(0)) pass()
    },
    close: () => {
      server.close()
      closeSync(fd)
    },
  }
}

test('a monitor that hangs while it is asked for an exit that is on no disk: the container is not taken for damaged, and ends with its exit code', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'exit', '7'])
  await exited(daemon, id)
  await daemon.end('SIGKILL')
  const exit = join(daemon.berth.root, 'pods', pod.id, 'containers', id, 'exit.json')
  // As a full disk has it.
  rmSync(exit)
  const monitor = await hangAfterFirst(stateOf({ pod, id }))
  try {
    await daemon.start(60_000)
    assert.not(existsSync(join(daemon.berth.root, 'quarantine')))
    assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
    monitor.release()
    assert.is((await exited(daemon, id)).exitCode, 7)
    assert.is(JSON.parse(readFileSync(exit, 'utf8')).code, 7)
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  } finally {
    monitor.release()
    monitor.close()
  }
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
