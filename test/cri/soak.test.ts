/** Many pods, one after the other and 20 at once: nothing of them stays, and the daemon is as large after the last as after the first. BERTH_SOAK_PODS is how many. */
import { existsSync, readdirSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon, exited, logLines, runContainer, runPod } from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { atOnce } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const PODS = Number(process.env['BERTH_SOAK_PODS'] ?? 200)
const AT_ONCE = 20
/** Until here caches fill and code is compiled. */
const WARM = Math.ceil(PODS / 4)
const OWN_NETWORK_EACH = 10
const IDLE_MS = 2000
const COLLECTED_MS = 1000
const MIB = 1024 * 1024
/** What the figures of one daemon that does nothing differ by, and some hundred bytes a pod would be beyond it at 2,000. */
const HEAP_NOISE_BYTES = 3 * MIB
const RESIDENT_NOISE_BYTES = 48 * MIB

const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const clean = traces({ roots: [daemon.berth.directory] })

interface Size {
  readonly heap: number
  readonly resident: number
  readonly fds: number
  readonly files: readonly string[]
}

function report(): Promise<{ memory: { heapUsedBytes: number; residentBytes: number } }> {
  return new Promise((resolve, reject) => {
    get({ socketPath: join(daemon.berth.state, 'debug.sock'), path: '/report' }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part) => {
        text += part
      })
      response.on('end', () => resolve(JSON.parse(text)))
    }).on('error', reject)
  })
}

/** Of the daemon, when it has been idle. */
async function size(): Promise<Size> {
  const socket = join(daemon.berth.state, 'warm-up.sock')
  await eventually('its warm-up has ended', () => !existsSync(socket), { withinMs: 60_000 })
  await delay(IDLE_MS)
  // Twice: what a finalizer lets go of is garbage of the next time.
  for (let i = 0; i < 2; i++) {
    daemon.signal('SIGUSR2')
    await delay(COLLECTED_MS)
  }
  const { heapUsedBytes, residentBytes } = (await report()).memory
  const { directory, root, state } = daemon.berth
  // Images and layers stay, and seccomp's programs.
  const files = [root, state, daemon.netConf, directory]
    .flatMap((path) => [path, ...readdirSync(path).map((name) => join(path, name))])
    .filter((path) => !path.startsWith(daemon.logs))
  return {
    heap: heapUsedBytes,
    resident: residentBytes,
    fds: readdirSync(`/proc/${daemon.pid}/fd`).length,
    files: files.sort(),
  }
}

async function live(index: number): Promise<void> {
  const pod = await runPod(daemon, index % OWN_NETWORK_EACH === 0 ? ownNetwork : {})
  const short = await runContainer(daemon, pod, ['probe', 'echo', `pod ${index}`])
  const long = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { stdout } = await daemon.call('ExecSync', {
    containerId: long,
    cmd: ['probe', 'echo', 'x'],
  })
  assert.is(stdout.toString(), 'x\n')
  await daemon.call('ContainerStats', { containerId: long })
  await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
  const { exitCode, logPath } = await exited(daemon, short)
  assert.equal([exitCode, logLines(logPath)], [0, [`pod ${index}`]])
  if (index % 2 === 0) {
    await daemon.call('StopContainer', { containerId: long, timeout: '0' })
    await daemon.call('RemoveContainer', { containerId: long })
    await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
  }
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
}

const many = (from: number, to: number): Promise<void> =>
  atOnce(
    Array.from({ length: to - from }, (_, i) => from + i),
    AT_ONCE,
    live,
  )

function tell(count: number, { heap, resident, fds }: Size, rate?: number): void {
  const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`
  const speed = rate === undefined ? '' : `, ${rate.toFixed(1)} pods a second`
  process.stdout.write(
    `# after ${count} pods: heap ${mib(heap)}, resident ${mib(resident)}, ${fds} fds${speed}\n`,
  )
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  process.env['NODE_OPTIONS'] = `--import=${import.meta.resolve('../lib/collect-garbage.js')}`
  await daemon.start()
  delete process.env['NODE_OPTIONS']
})

test(`${PODS} pods, ${AT_ONCE} at once, leave nothing behind, and memory is flat`, async () => {
  const stream = daemon.client.stream('GetContainerEvents')
  let events = 0
  stream.on('error', () => {})
  stream.on('data', () => {
    events++
  })
  await many(0, WARM)
  const before = await size()
  tell(WARM, before)
  let after = before
  for (let done = WARM; done < PODS; done += WARM) {
    const next = Math.min(done + WARM, PODS)
    const begin = performance.now()
    await many(done, next)
    const seconds = (performance.now() - begin) / 1000
    after = await size()
    tell(next, after, (next - done) / seconds)
  }
  assert.ok(events > 0)
  const only = (one: Size, other: Size): string[] =>
    one.files.filter((path) => !other.files.includes(path))
  assert.equal({ more: only(after, before), fewer: only(before, after) }, { more: [], fewer: [] })
  assert.ok(after.fds <= before.fds + 2, `${before.fds} fds became ${after.fds}`)
  assert.ok(after.heap < before.heap + HEAP_NOISE_BYTES, 'the heap has grown')
  assert.ok(after.resident < before.resident + RESIDENT_NOISE_BYTES, 'the daemon has grown')
  stream.cancel()
})

test('nothing is left behind', async () => {
  try {
    const { root, state } = daemon.berth
    assert.equal((await daemon.call('ListPodSandbox')).items, [])
    assert.equal((await daemon.call('ListContainers')).containers, [])
    await eventually('no address is in use', () => network.leases().size === 0)
    for (const path of [join(root, 'pods'), join(root, 'pod-networks'), join(state, 'pods')])
      assert.equal(readdirSync(path), [], path)
    assert.not(existsSync(join(root, 'quarantine')))
    // No line was written that says that something went wrong.
    assert.not.match(daemon.log, / (WARN|ERROR) .*(pod|container) [0-9a-f]{12}/)
  } finally {
    await daemon.destroy()
  }
  await clean()
})

test.run()
