/** The daemon calls itself some seconds after its start: nobody sees it, calls go on, and whenever it ends nothing is left. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon('[log]\nlevel = "debug"\n')
const clean = traces({ roots: [daemon.berth.directory] })
const socket = join(daemon.berth.state, 'warm-up.sock')

test('a daemon that is killed before leaves its socket to the next', async () => {
  await daemon.loadHello()
  await daemon.start()
  assert.is(statSync(socket).mode & 0o777, 0o600)
  await daemon.end('SIGKILL')
  assert.ok(existsSync(socket))
})

test('pods are made meanwhile, their files with the modes that they have else, and no call is told that nobody made', async () => {
  await daemon.start()
  const states: string[] = []
  for (let pods = 0; pods < 5; pods++) {
    const pod = await runPod(daemon)
    const container = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
    states.push((await statusOf(daemon, container)).state)
    const upper = join(daemon.berth.root, 'pods', pod.id, 'containers', container, 'upper')
    assert.is(statSync(upper).mode & 0o777, 0o755)
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  }
  await eventually('it has ended', () => !existsSync(socket), { withinMs: 60_000 })
  assert.equal(new Set(states), new Set(['CONTAINER_RUNNING']))
  assert.match(daemon.log, /method=RunPodSandbox/)
  assert.is(
    daemon.log.split('\n').find((line) => /UpdateRuntimeConfig/.test(line)),
    undefined,
  )
})

test('a kubelet that listens to events does not keep it from coming', async () => {
  await daemon.end()
  await daemon.start()
  const events = daemon.client.stream('GetContainerEvents')
  events.on('error', () => {})
  // Behind it on the same connection, so it listens before the warm-up begins.
  await daemon.call('Version')
  await eventually('it has ended', () => !existsSync(socket), { withinMs: 60_000 })
  events.cancel()
})

test('one that is to end ends at once, and takes the socket along', async () => {
  await daemon.end()
  await daemon.start()
  await daemon.end()
  assert.not.ok(existsSync(socket))
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
