/**
 * kill -9 of the daemon at random moments, while clients make pods, use them and remove them, and ask again when a call has failed, as a kubelet does.
 * BERTH_CRASH_KILLS is how often, BERTH_CRASH_SEED repeats a run (as far as a machine's time can be repeated).
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ServiceError } from '@grpc/grpc-js'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import type * as cri from '../../src/spec/cri.ts'
import {
  type Calls,
  CriDaemon,
  containerConfig,
  type Given,
  logLines,
  podConfig,
} from '../lib/cri.ts'
import { FakeNetwork, ownNetwork } from '../lib/cri-network.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { Random } from '../lib/random.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const KILLS = Number(process.env['BERTH_CRASH_KILLS'] ?? 25)
const SEED = Number(process.env['BERTH_CRASH_SEED'] ?? Date.now() % 2 ** 32)
const CLIENTS = 6
/** A daemon lives so long after it first answers; many a kill comes while it still takes up what is there. */
const LIFE_MS_MAX = 800
const LIST_MS = 200
const RETRY_MS = 100
/** On a machine that others use, too. */
const START_MS_MAX = 60_000
/** Of a slower one the reader is told what the daemon has said. */
const START_MS_TOLD = 8000

const UNKNOWN = 2
const FAILED_PRECONDITION = 9
const INTERNAL = 13
const UNAVAILABLE = 14

process.stdout.write(`# seed ${SEED}, ${KILLS} kills\n`)
const random = new Random(SEED)
const daemon = new CriDaemon()
const network = FakeNetwork.of(daemon)
const clean = traces({ roots: [daemon.berth.directory], withinMs: 15_000 })

/** Pods that were made and whose removal nobody has asked for. */
const kept = new Set<string>()
/** What a client has seen of a container's times: no daemon may say otherwise later. */
const times = new Map<string, { createdAt: string; startedAt: string }>()
let isOver = false
let pods = 0
let retries = 0
let kills = 0
let slowestMs = 0

/** Asks until there is an answer that is the daemon's own. */
async function insist<Name extends keyof Calls>(
  name: Name,
  request: Given<Calls[Name][0]>,
): Promise<Calls[Name][1]> {
  for (;;) {
    try {
      return await daemon.call(name, request)
    } catch (error) {
      const { code, details } = error as ServiceError
      const isCut =
        code === UNAVAILABLE ||
        ((code === INTERNAL || code === UNKNOWN || code === 1) &&
          /RST_STREAM|closed|dropped|ancel/i.test(details))
      if (!isCut) throw error
      retries++
      await delay(RETRY_MS)
    }
  }
}

async function statusOf(containerId: string): Promise<cri.ContainerStatus> {
  const { status } = await insist('ContainerStatus', { containerId })
  if (!status) throw new Error(`no status of ${containerId}`)
  const seen = times.get(containerId)
  if (seen) assert.is(status.createdAt, seen.createdAt, 'created_at')
  if (seen && seen.startedAt !== '0') assert.is(status.startedAt, seen.startedAt, 'started_at')
  times.set(containerId, { createdAt: status.createdAt, startedAt: status.startedAt })
  return status
}

async function make(
  podSandboxId: string,
  sandboxConfig: Given<cri.PodSandboxConfig>,
  command: string[],
): Promise<string> {
  const config = containerConfig(command)
  const { containerId } = await insist('CreateContainer', { podSandboxId, config, sandboxConfig })
  for (;;) {
    try {
      await insist('StartContainer', { containerId })
      return containerId
    } catch (error) {
      // The answer to an earlier call was lost: it is started.
      if ((error as ServiceError).code !== FAILED_PRECONDITION) throw error
      assert.is.not((await statusOf(containerId)).state, 'CONTAINER_CREATED', String(error))
      return containerId
    }
  }
}

const ended = (id: string, what: string): Promise<cri.ContainerStatus> =>
  eventually(
    `${what} ends`,
    async () => {
      const status = await statusOf(id)
      return status.state === 'CONTAINER_EXITED' && status
    },
    { withinMs: 60_000, everyMs: 50 },
  )

/** One pod's life. */
async function live(): Promise<void> {
  const hasNetwork = random.chance(0.4)
  const config = podConfig(daemon, hasNetwork ? ownNetwork : {})
  const { podSandboxId } = await insist('RunPodSandbox', { config })
  kept.add(podSandboxId)
  const { status } = await insist('PodSandboxStatus', { podSandboxId })
  const address = status?.network?.ip ?? ''
  if (hasNetwork) assert.is(network.leases().get(address), podSandboxId)
  else assert.is(address, '')
  const count = random.between(20, 300)
  const code = random.between(1, 200)
  const writer = await make(podSandboxId, config, ['probe', 'lines', String(count), '400'])
  const failing = await make(podSandboxId, config, ['probe', 'exit', String(code)])
  const sleeper = random.chance(0.5)
    ? await make(podSandboxId, config, ['probe', 'sleep', '1000'])
    : undefined
  if (sleeper !== undefined) {
    const { stdout } = await insist('ExecSync', {
      containerId: sleeper,
      cmd: ['probe', 'echo', 'x'],
    })
    assert.is(stdout.toString(), 'x\n')
    if (random.chance(0.5)) {
      await insist('StopContainer', { containerId: sleeper, timeout: '0' })
      assert.is((await statusOf(sleeper)).exitCode, 137)
    }
  }
  const failed = await ended(failing, `exit ${code}`)
  assert.equal([failed.exitCode, failed.reason], [code, 'Error'])
  const wrote = await ended(writer, `${count} lines`)
  assert.equal([wrote.exitCode, wrote.reason], [0, 'Completed'])
  const lines = logLines(wrote.logPath)
  assert.equal(
    lines,
    Array.from({ length: count }, (_, i) => `line ${i + 1}`),
  )
  const { status: last } = await insist('PodSandboxStatus', { podSandboxId })
  assert.equal(last, status)
  kept.delete(podSandboxId)
  if (random.chance(0.7)) {
    await insist('StopPodSandbox', { podSandboxId })
    if (hasNetwork) assert.is.not(network.leases().get(address), podSandboxId)
    const { status: stopped } = await insist('PodSandboxStatus', { podSandboxId })
    assert.is(stopped?.state, 'SANDBOX_NOTREADY')
  }
  if (random.chance(0.5)) await insist('RemoveContainer', { containerId: failing })
  await insist('RemovePodSandbox', { podSandboxId })
  pods++
}

/** What the kubelet looks at all the time: no pod is missing, and none is there twice. */
async function look(): Promise<void> {
  while (!isOver) {
    const before = [...kept]
    const { items } = await insist('ListPodSandbox', {})
    const ready = items.filter(({ state }) => state === 'SANDBOX_READY')
    const names = ready.map(({ metadata }) => metadata?.name)
    assert.is(new Set(names).size, names.length, 'a pod is there twice')
    const listed = new Set(ready.map(({ id }) => id))
    for (const id of before) assert.ok(listed.has(id) || !kept.has(id), `pod ${id} is lost`)
    await delay(LIST_MS)
  }
}

async function killAgainAndAgain(): Promise<void> {
  for (let n = 0; n < KILLS && !isOver; n++) {
    await delay(random.between(0, LIFE_MS_MAX))
    await daemon.end('SIGKILL')
    kills++
    daemon.log = ''
    const begin = performance.now()
    await daemon.start(START_MS_MAX).catch((error) => {
      throw new Error(`${describe(error)}\n${daemon.log}`)
    })
    const ms = performance.now() - begin
    slowestMs = Math.max(slowestMs, ms)
    if (ms > START_MS_TOLD)
      process.stdout.write(`# start ${n} took ${Math.round(ms)} ms:\n${daemon.log}\n`)
  }
}

async function client(): Promise<void> {
  while (!isOver) await live()
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

test(`${KILLS} kills under ${CLIENTS} clients: no exit code, log line, pod or address is lost`, async () => {
  const all = [...Array.from({ length: CLIENTS }, client), look()]
  const failed = Promise.all(all)
  const killed = Promise.race([killAgainAndAgain(), failed]).finally(() => {
    isOver = true
  })
  // All are waited for; the first that failed is what the reader needs.
  const results = await Promise.allSettled([...all, killed])
  process.stdout.write(
    `# ${kills} kills, ${pods} pods, ${retries} calls repeated, the slowest start ${Math.round(slowestMs)} ms\n`,
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
  assert.ok(pods > 0)
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
  } finally {
    await daemon.destroy()
  }
  await clean()
})

test.run()
