/** Every kernel call of the daemon in a pod's and a container's life fails once: it is told, or makes no difference, nothing stays, and the same call then succeeds. */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { isMonitorAlive } from '../../src/container/monitor.ts'
import type { FileLock } from '../../src/kernel/lock.ts'
import { layersMeasured, writableLayerUsage } from '../../src/pod/image-usage.ts'
import {
  createContainer,
  execSync,
  Node,
  recoverNode,
  removeContainer,
  removePod,
  runPod,
  startContainer,
  stopPod,
} from '../../src/pod/index.ts'
import { Networks } from '../../src/pod/network.ts'
import type { PodSandboxConfig } from '../../src/spec/cri.ts'
import { DEFAULT_CAPABILITIES } from '../../src/spec/defaults.ts'
import { Berth } from '../lib/berth.ts'
import { HELLO } from '../lib/cri.ts'
import { FakeNetwork } from '../lib/cri-network.ts'
import { engineOf } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { withFault } from '../lib/faults.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'
import { containerConfig, options, podConfig, security } from '../unit/pod/config.ts'

needs('root', 'overlay', 'cgroup2')

const CALLS_MAX = 2000

const berth = new Berth()
const clean = traces({ roots: [berth.directory] })
const netConf = join(berth.directory, 'net.d')
mkdirSync(netConf)
const network = new FakeNetwork(berth.directory, netConf)
const warnings: string[] = []
const engine = engineOf(berth, warnings)

function newNode(): Node {
  const networks = new Networks({
    directory: join(berth.root, 'pod-networks'),
    confDirectory: netConf,
    pluginDirectories: [network.plugins],
    warn: (text) => warnings.push(text),
  })
  const container = {
    seccompProfile: '',
    capabilities: DEFAULT_CAPABILITIES,
    ulimits: [],
    privilegedWithoutHostDevices: false,
    restrictOomScoreAdj: false,
  }
  return new Node(
    engine,
    {
      missingControllers: 'warn',
      cgroupDriver: 'cgroupfs',
      handlers: new Map(),
      container,
      pinnedImages: [],
      layersAtOnce: 3,
      keepBlobs: true,
      signaturePolicy: undefined,
      pullProgressTimeoutMs: 0,
    },
    networks,
  )
}

const node = newNode()
let lock: FileLock | undefined
/** The pod holds all that a pod can hold. */
const namespaceOptions = options({ pid: 'POD', usernsOptions: null })
const logDirectory = join(berth.directory, 'logs')
const pod: PodSandboxConfig = podConfig({ namespaceOptions }, { logDirectory })
const container = containerConfig(
  {
    image: {
      image: HELLO,
      annotations: {},
      userSpecifiedImage: '',
      runtimeHandler: '',
      imageRef: '',
    },
    command: ['probe', 'sleep', '1000'],
    logPath: 'main.log',
  },
  security({ namespaceOptions, seccomp: { profileType: 'RuntimeDefault', localhostRef: '' } }),
)
/** With a PID namespace of its own its first process is made ahead. */
const ownPids = {
  ...container,
  linux: {
    ...container.linux,
    securityContext: security({
      namespaceOptions: options({ pid: 'CONTAINER', usernsOptions: null }),
      seccomp: { profileType: 'RuntimeDefault', localhostRef: '' },
    }),
  },
} as typeof container
const KINDS = [
  ['with the processes of the pod', container],
  ['with a first process that is made ahead', ownPids],
] as const
const makeContainer = (podId: string, config = container): Promise<string> =>
  createContainer(node, podId, { ...config, envs: [] })

async function start(podId: string): Promise<string> {
  const id = await makeContainer(podId)
  await startContainer(node, id)
  return id
}

function isEmpty(said: string): void {
  assert.is(node.pods.size + node.containers.size, 0, said)
  for (const path of [join(berth.root, 'pods'), join(berth.state, 'pods')])
    assert.equal(readdirSync(path), [], said)
  assert.is(network.leases().size, 0, said)
}

/** Calls `round` with 1, 2, 3 … until there are fewer calls than that. */
async function sweep(
  what: string,
  round: (n: number) => Promise<{ failed: string | undefined; error?: unknown; said: string }>,
): Promise<void> {
  let told = 0
  const harmless = new Set<string>()
  let n = 1
  for (; n < CALLS_MAX; n++) {
    const { failed, error, said } = await round(n)
    warnings.length = 0
    if (failed === undefined) break
    if (error === undefined) harmless.add(failed)
    else {
      told++
      assert.match(describe(error), /EIO|i\/o error/, said)
    }
  }
  assert.ok(n < CALLS_MAX)
  console.log(
    `# ${what}: of ${n - 1} calls ${told} failures were told; without effect: ${[...harmless].join(', ')}`,
  )
  assert.ok(told > 5)
}

/** With the nth call failing; what happened, in words. */
async function faulty<T>(n: number, act: () => Promise<T>) {
  const { failed, error, result } = await withFault(n, act)
  const said = `call ${n}, ${failed}: ${error === undefined ? 'no error' : describe(error)}; ${warnings.join('; ')}`
  return { failed, error, result, said }
}

test('the node is empty', async () => {
  await berth.ok(['load', '--input', join(REPOSITORY, 'dist/rootfs/images/hello'), '--name', HELLO])
  lock = await recoverNode(node)
})

test("the size of a container's layer is forgotten with it", async () => {
  const podId = await runPod(node, pod, '')
  const id = await start(podId)
  const upper = node.at.upper(podId, id)
  await layersMeasured(engine, [upper], 10_000)
  assert.ok(writableLayerUsage(engine, upper))
  await removeContainer(node, id)
  await Promise.all(node.mustPod(podId).removals)
  assert.is(writableLayerUsage(engine, upper), undefined)
  await removePod(node, podId)
})

test('RunPodSandbox: the nth call fails, for every n', async () => {
  await sweep('RunPodSandbox', async (n) => {
    const { result, ...rest } = await faulty(n, () => runPod(node, pod, ''))
    if (rest.error !== undefined) isEmpty(rest.said)
    const id = await runPod(node, pod, '')
    if (result !== undefined) assert.is(id, result, rest.said)
    await removePod(node, id)
    isEmpty(rest.said)
    return rest
  })
})

for (const [kind, config] of KINDS) {
  test(`CreateContainer ${kind}: the nth call fails, for every n`, async () => {
    const podId = await runPod(node, pod, '')
    const containers = node.at.containers(podId)
    await sweep('CreateContainer', async (n) => {
      const { result, ...rest } = await faulty(n, () => makeContainer(podId, config))
      if (rest.error !== undefined) {
        assert.is(node.containers.size, 0, rest.said)
        assert.equal(readdirSync(containers), [], rest.said)
        assert.is(node.ahead.size, 0, rest.said)
        assert.equal((await node.mustPod(podId).monitor?.status())?.containers, {}, rest.said)
      }
      const id = await makeContainer(podId, config)
      if (result !== undefined) assert.is(id, result, rest.said)
      await removeContainer(node, id)
      // Its files go in the background.
      await Promise.all(node.mustPod(podId).removals)
      assert.equal(readdirSync(containers), [], rest.said)
      return rest
    })
    await removePod(node, podId)
    isEmpty('at the end')
  })
}

test('a pod that stops while a container is being created takes its first process along', async () => {
  for (let turns = 0; turns < 12; turns++) {
    const podId = await runPod(node, pod, '')
    const made = makeContainer(podId, ownPids).catch(() => undefined)
    for (let i = 0; i < turns; i++) await new Promise(setImmediate)
    await stopPod(node, podId)
    await made
    await eventually('its monitor ends', () => !isMonitorAlive(node.at.monitor(podId)))
    assert.is(node.ahead.size, 0, `after ${turns}`)
    await removePod(node, podId)
    isEmpty(`after ${turns}`)
  }
})

test('StartContainer of what was made ahead: the nth call fails, for every n, and it starts all the same', async () => {
  const podId = await runPod(node, pod, '')
  for (let n = 1; ; n++) {
    const id = await makeContainer(podId, ownPids)
    const { failed, error, said } = await faulty(n, () => startContainer(node, id))
    assert.is(error, undefined, said)
    assert.is(node.mustContainer(id).status.state, 'running', said)
    assert.is(node.ahead.size, 0, said)
    await removeContainer(node, id)
    assert.equal((await node.mustPod(podId).monitor?.status())?.containers, {}, said)
    if (failed === undefined) break
  }
  await removePod(node, podId)
  isEmpty('at the end')
})

test('StartContainer: the nth call fails, for every n', async () => {
  const podId = await runPod(node, pod, '')
  await sweep('StartContainer', async (n) => {
    const id = await makeContainer(podId)
    const rest = await faulty(n, () => startContainer(node, id))
    const { status } = node.mustContainer(id)
    if (rest.error === undefined) {
      assert.is(status.state, 'running', rest.said)
      const { stdout } = await execSync(node, id, ['probe', 'echo', 'x'], {
        timeoutMs: 0,
        bytesMax: 1000,
        signal: new AbortController().signal,
      })
      assert.is(stdout.toString(), 'x\n', rest.said)
    } else {
      assert.is(status.state, 'exited', rest.said)
      assert.is(status.reason, 'StartError', rest.said)
      // Nothing of it runs.
      const said = await node.mustPod(podId).monitor?.status()
      const pid = said?.containers[id]?.pid ?? 0
      assert.is(pid, 0, rest.said)
    }
    await removeContainer(node, id)
    const again = await start(podId)
    assert.is(node.mustContainer(again).status.state, 'running', rest.said)
    await removeContainer(node, again)
    const { containers } = (await node.mustPod(podId).monitor?.status()) ?? {}
    assert.equal(containers, {}, rest.said)
    return rest
  })
  await removePod(node, podId)
  isEmpty('at the end')
})

for (const [name, act] of [
  ['StopPodSandbox', stopPod],
  ['RemovePodSandbox', removePod],
] as const) {
  test(`${name}: the nth call fails, for every n`, async () => {
    await sweep(name, async (n) => {
      const podId = await runPod(node, pod, '')
      const id = await start(podId)
      const rest = await faulty(n, () => act(node, podId))
      await act(node, podId)
      if (name === 'StopPodSandbox') {
        assert.is(node.mustPod(podId).isReady, false, rest.said)
        await eventually('it has ended', () => node.mustContainer(id).status.state === 'exited')
        assert.is(node.mustContainer(id).status.exitCode, 137, rest.said)
        assert.is(network.leases().size, 0, rest.said)
        await removePod(node, podId)
      }
      isEmpty(rest.said)
      return rest
    })
  })
}

test('nothing is left behind', async () => {
  for (const id of [...node.pods.keys()]) await removePod(node, id)
  node.networks.close()
  await node.monitors.end()
  lock?.release()
  berth.destroy()
  await clean()
})

test.run()
