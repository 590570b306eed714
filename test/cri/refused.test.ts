/** What a client may ask for and must not get: in words, before anything is made. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  podConfig,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const INVALID_ARGUMENT = 3
const ALREADY_EXISTS = 6
const FAILED_PRECONDITION = 9

const daemon = new CriDaemon(`
[runtime_handlers.other]
capabilities = []
`)
const clean = traces({ roots: [daemon.berth.directory] })

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

for (const [cgroupParent, words] of [
  ['/kubepods.slice/kubepods-pod1.slice', /cgroup_parent.*systemd/],
  ['kubepods-pod1.slice', /cgroup_parent.*systemd/],
  ['/a/../../b', /cgroup_parent/],
  ['relative', /cgroup_parent/],
] as const) {
  test(`a pod with the cgroup parent ${cgroupParent} is refused`, async () => {
    const { code, text } = await failure(runPod(daemon, { linux: { cgroupParent } }))
    assert.is(code, INVALID_ARGUMENT, text)
    assert.match(text, words)
    assert.equal((await daemon.call('ListPodSandbox')).items, [])
  })
}

test('the same name at once with something else: one of them is refused, and not given the other one', async () => {
  const config = podConfig(daemon)
  const pods = await Promise.allSettled([
    daemon.call('RunPodSandbox', { config }),
    daemon.call('RunPodSandbox', { config: { ...config, labels: { other: 'yes' } } }),
  ])
  assert.equal(
    pods.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
  const { code } = await failure(daemon.call('RunPodSandbox', { config, runtimeHandler: 'other' }))
  assert.is(code, ALREADY_EXISTS)
  const [first] = pods
  if (first?.status !== 'fulfilled') throw new Error('no pod')
  const ask = containerConfig(['/bin/probe', 'true'])
  const podSandboxId = first.value.podSandboxId
  const containers = await Promise.allSettled([
    daemon.call('CreateContainer', { podSandboxId, config: ask }),
    daemon.call('CreateContainer', { podSandboxId, config: { ...ask, tty: true } }),
  ])
  assert.equal(
    containers.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
})

test('a container whose target has ended since it was made is not started in whatever has its pid now', async () => {
  const pod = await runPod(daemon)
  const target = await runContainer(daemon, pod, ['/bin/probe', 'sleep', '600'])
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['/bin/probe', 'true'], {
      linux: {
        securityContext: {
          namespaceOptions: { network: 'NODE', pid: 'TARGET', ipc: 'POD', targetId: target },
        },
      },
    }),
  })
  await daemon.call('StopContainer', { containerId: target, timeout: '0' })
  const { code, text } = await failure(daemon.call('StartContainer', { containerId }))
  assert.is(code, FAILED_PRECONDITION, text)
  assert.match(text, /target/)
  assert.is((await exited(daemon, containerId)).reason, 'StartError')
  assert.is((await statusOf(daemon, target)).state, 'CONTAINER_EXITED')
})

test.after.each(async () => {
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
