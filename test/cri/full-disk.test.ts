/** A full disk while pods end on it: they are stopped and removed, whatever cannot be written (damage.test.ts has the daemon's start, logs and execs). */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, exited, failure, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const { root, state } = daemon.berth
const filler = join(root, 'filler')
const clean = traces({ roots: [daemon.berth.directory] })

/** Nothing more can be written. */
function fill(): void {
  for (let bytes = 1024 * 1024; bytes >= 1; bytes = Math.floor(bytes / 4)) {
    try {
      for (;;) writeFileSync(filler, Buffer.alloc(bytes), { flag: 'a' })
    } catch {
      // So large a piece has no room any more.
    }
  }
  assert.is(statfsSync(root).bavail, 0)
}

test('the root is on a small disk', async () => {
  mkdirSync(root, { mode: 0o700 })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m,mode=0700', 'small', root])
  await daemon.loadHello()
  await daemon.start()
})

test('a pod whose containers have ended on a full disk is stopped and removed; its exits are known, also to the next daemon', async () => {
  const pod = await runPod(daemon, ownNetwork)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const status = readFileSync(join(state, 'pods', pod.id, 'status.json'), 'utf8')
  const { monitor } = JSON.parse(status)
  fill()
  const { text } = await failure(runPod(daemon))
  assert.match(text, /ENOSPC.*making\.json|ENOSPC.*pods\//)
  await daemon.call('StopContainer', { containerId: id, timeout: '0' })
  assert.is((await exited(daemon, id)).exitCode, 137)
  await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  assert.is(network.leases().size, 0)
  await daemon.end('SIGKILL')
  await daemon.start()
  assert.is((await statusOf(daemon, id)).exitCode, 137)
  await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.equal(readdirSync(join(root, 'pods')), [])
  await eventually('its monitor ends', () => !lives(monitor))
  assert.not(existsSync(join(state, 'pods', pod.id)))
})

test('with room again pods run', async () => {
  rmSync(filler)
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'exit', '3'])
  assert.is((await exited(daemon, id)).exitCode, 3)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('nothing is left behind', async () => {
  await daemon.end()
  execFileSync('umount', ['--lazy', root])
  await daemon.destroy()
  await clean()
})

test.run()
