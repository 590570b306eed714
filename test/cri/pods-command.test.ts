/** `berth pods`: what the daemon says of its pods is seen without it, too. */
import { readdirSync, readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isMonitorAlive } from '../../src/container/monitor.ts'
import { CriDaemon, containerConfig, exited, runContainer, runPod } from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const { berth } = daemon
const clean = traces({ roots: [berth.directory] })

interface Listed {
  id: string
  name: string
  namespace: string
  isReady: boolean
  addresses: string[]
  containers: { id: string; state: string; exitCode: number; pid: number; reason: string }[]
}

const listed = async (): Promise<Listed[]> =>
  JSON.parse(await berth.ok(['pods', '--format', 'json']))

const stateOf = (pod: string): string => join(berth.state, 'pods', pod)

test('no pod yet, and no daemon: an empty list', async () => {
  assert.equal(await listed(), [])
})

test('pods and containers in each state are as the daemon says, and stay so when it is killed', async () => {
  await daemon.loadHello()
  await daemon.start()
  const stopped = await runPod(daemon, ownNetwork)
  await daemon.call('StopPodSandbox', { podSandboxId: stopped.id })
  const pod = await runPod(daemon, ownNetwork)
  const { containerId: created } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['probe']),
    sandboxConfig: pod.config,
  })
  const running = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const failed = await runContainer(daemon, pod, ['probe', 'exit', '9'])
  await exited(daemon, failed)

  const pods = await listed()
  assert.equal(
    pods.map(({ id, isReady, namespace }) => [id, isReady, namespace]),
    [
      [pod.id, true, 'test'],
      [stopped.id, false, 'test'],
    ],
  )
  const [first, second] = pods
  assert.equal(first?.addresses, [...network.leases().keys()])
  assert.equal(second?.addresses, [])
  assert.equal(
    first?.containers.map(({ id, state, exitCode, reason }) => [id, state, exitCode, reason]),
    [
      [created, 'created', 0, ''],
      [running, 'running', 0, ''],
      [failed, 'exited', 9, 'Error'],
    ],
  )
  const pid = first?.containers[1]?.pid
  assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /sleep/)

  const stdout = await berth.ok(['pods'])
  const rows = stdout.trimEnd().split('\n')
  assert.is(rows.length, 6)
  const name = pod.config.metadata?.name
  assert.match(rows[1] ?? '', new RegExp(`^${pod.id.slice(0, 12)}   test/${name} .*Ready`))
  assert.match(
    rows[3] ?? '',
    new RegExp(`^${running.slice(0, 12)}   test/${name}/container-.* Up .*localhost/hello:latest$`),
  )
  assert.match(rows[4] ?? '', /Exited \(9\)/)
  assert.match(rows[5] ?? '', /Not ready/)

  await daemon.end('SIGKILL')
  assert.equal(await listed(), pods)
})

test('with its monitor gone, too, and no daemon that has looked: lost', async () => {
  const [pod] = await listed()
  const directory = stateOf(pod?.id ?? '')
  const status = JSON.parse(readFileSync(join(directory, 'status.json'), 'utf8'))
  process.kill(status.monitor, 'SIGKILL')
  await eventually('it is dead', () => !isMonitorAlive(directory))
  const [lost] = await listed()
  assert.is(lost?.isReady, false)
  assert.equal(
    lost?.containers.map(({ state, exitCode, pid }) => [state, exitCode, pid]),
    [
      ['created', 0, 0],
      ['exited', 255, 0],
      ['exited', 9, 0],
    ],
  )
})

test('a damaged record is told, and the rest is listed; the list itself mends nothing', async () => {
  const [pod, other] = await listed()
  truncateSync(join(berth.root, 'pods', pod?.id ?? '', 'record.json'), 5)
  const { stdout, stderr } = await berth.run(['pods', '--format', 'json'])
  assert.equal(
    JSON.parse(stdout).map(({ id }: Listed) => id),
    [other?.id],
  )
  assert.match(stderr, new RegExp(`${pod?.id}.*damaged`))
  assert.is(readdirSync(join(berth.root, 'pods')).length, 2)
})

test('an argument is refused', async () => {
  await berth.refused(['pods', 'x'], /too many arguments/)
})

test('nothing is left behind', async () => {
  await daemon.start()
  await daemon.destroy()
  await clean()
})

test.run()
