/** A pod with more containers than any that the kubelet makes by itself: users may ask for them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, exited, runContainer, runPod } from '../lib/cri.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

/** More than the waits that a monitor took of one connection. */
const CONTAINERS = 70

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

test('the end of each of many containers that run at once is seen', async () => {
  const pod = await runPod(daemon)
  const ids: string[] = []
  for (let i = 0; i < CONTAINERS; i++)
    ids.push(await runContainer(daemon, pod, ['/bin/probe', 'sleep', '1000']))
  const last = ids.at(-1) ?? ''
  await daemon.call('StopContainer', { containerId: last, timeout: '0' }, { deadlineMs: 20_000 })
  assert.is((await exited(daemon, last)).exitCode, 137)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
