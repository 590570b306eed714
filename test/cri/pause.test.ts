/** The first process of a PID namespace that the containers of a pod share: what its end means for the pod. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, exited, failure, runContainer, runPod } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const FAILED_PRECONDITION = 9

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

const shared = {
  linux: {
    securityContext: { namespaceOptions: { network: 'NODE', pid: 'POD', ipc: 'POD' } },
  },
} as const

const stateOf = async (id: string): Promise<string> => {
  const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: id })
  return status?.state ?? ''
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

test('a container ends the first process of its pod: the pod is not ready, so that the kubelet makes another', async () => {
  const pod = await runPod(daemon, shared)
  const container = await runContainer(daemon, pod, ['/bin/probe', 'sleep', '600'], shared)
  // As root with CAP_KILL, which containers have: SIGTERM is what it ends at.
  await daemon
    .call('ExecSync', { containerId: container, cmd: ['/bin/probe', 'kill', '1', '15'] })
    .catch(() => {})
  await exited(daemon, container)
  await eventually('the pod is not ready', async () => {
    return (await stateOf(pod.id)) === 'SANDBOX_NOTREADY'
  })
  const { code } = await failure(runContainer(daemon, pod, ['/bin/probe', 'true'], shared))
  assert.is(code, FAILED_PRECONDITION)
  await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
