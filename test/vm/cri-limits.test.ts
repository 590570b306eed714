/** The limits of the CRI on a machine with all controllers: what is asked is in the cgroup, in force, and told again. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Rates, sampleAll } from '../../src/pod/stats.ts'
import type * as cri from '../../src/spec/cri.ts'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  type Given,
  logLines,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { cgroupRoot, lacks, needing, needs, ZRAM } from '../lib/needs.ts'
import { shareUnderQuota } from '../lib/quota.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'cgroup:cpu', 'cgroup:io', 'cgroup:memory', 'cgroup:pids')

const FAILED_PRECONDITION = 9
const INVALID_ARGUMENT = 3
const MIB = 2 ** 20
const FOREVER = ['probe', 'sleep', '1000']

const daemon = new CriDaemon('', 'refuse')
const clean = traces({ roots: [daemon.berth.directory] })

type Pod = Awaited<ReturnType<typeof runPod>>
type Resources = Given<cri.LinuxContainerResources>

test('the daemon starts, and refuses what it cannot enforce', async () => {
  await daemon.loadHello()
  await daemon.start()
  const { info } = await daemon.call('Status', { verbose: true })
  assert.is(JSON.parse(info['config'] ?? '').cgroup.missing, 'refuse')
})

// -- helpers ---------------------------------------------------------------------------------------------------------

const context = (pid: cri.NamespaceMode = 'CONTAINER') => ({
  securityContext: { namespaceOptions: { network: 'NODE', pid, ipc: 'POD' } as const },
})

/** A pod that is removed in the end. */
async function inPod(
  use: (pod: Pod) => Promise<void>,
  change: Given<cri.PodSandboxConfig> = {},
): Promise<void> {
  const pod = await runPod(daemon, change)
  await use(pod)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
}

const limited = (resources: Resources): Given<cri.ContainerConfig> => ({
  linux: { ...context(), resources },
})

/** A limit of memory as the kubelet gives it where no swap is to be used. */
const memory = (mib: number, swapMib = 0): Resources => ({
  memoryLimitInBytes: String(mib * MIB),
  memorySwapLimitInBytes: String((mib + swapMib) * MIB),
})

const run = (pod: Pod, command: string[], resources: Resources = {}): Promise<string> =>
  runContainer(daemon, pod, command, limited(resources))

/** Creates only, and says why not. */
const refusal = (pod: Pod, resources: Resources) =>
  failure(
    daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(FOREVER, limited(resources)),
    }),
  )

async function cgroupOf(containerId: string): Promise<string> {
  const { info } = await daemon.call('ContainerStatus', { containerId, verbose: true })
  return JSON.parse(info['info'] ?? '').cgroup
}

const text = (cgroup: string, file: string): string =>
  readFileSync(join(cgroup, file), 'utf8').trim()

/** Of a flat keyed file, such as cpu.stat. */
function value(cgroup: string, file: string, key: string): number {
  const line = new RegExp(`^${key} (\\d+)$`, 'm').exec(text(cgroup, file))
  assert.ok(line, `${file} has no ${key}`)
  return Number(line[1])
}

const files = (cgroup: string, ...names: string[]): string[] =>
  names.map((name) => text(cgroup, name))

const exec = (containerId: string, ...cmd: string[]) =>
  daemon.call('ExecSync', { containerId, cmd: ['probe', ...cmd] })

const update = (containerId: string, linux: Resources) =>
  daemon.call('UpdateContainerResources', { containerId, linux })

async function resourcesOf(id: string): Promise<cri.LinuxContainerResources> {
  const { resources } = await statusOf(daemon, id)
  if (!resources?.linux) throw new Error('no resources')
  return resources.linux
}

async function says(id: string, line: string): Promise<void> {
  const { logPath } = await statusOf(daemon, id)
  await eventually(line, () => logLines(logPath).includes(line))
}

/** Holds that much memory, touched. */
async function holding(pod: Pod, mib: number, resources: Resources): Promise<string> {
  const id = await run(pod, ['probe', 'memory', String(mib * MIB), '1000'], resources)
  await says(id, `touched ${mib * MIB}`)
  return id
}

const number = (of: { value: string } | null | undefined): number => Number(of?.value ?? -1)

// -- memory ----------------------------------------------------------------------------------------------------------

test('a hog ends with 137 and OOMKilled; who stays within its limit, or dies of KILL, does not', () =>
  inPod(async (pod) => {
    const hog = await exited(
      daemon,
      await run(pod, ['probe', 'memory', String(200 * MIB)], memory(64)),
    )
    assert.equal([hog.exitCode, hog.reason, hog.message], [137, 'OOMKilled', ''])
    const modest = await exited(
      daemon,
      await run(pod, ['probe', 'memory', String(32 * MIB)], memory(64)),
    )
    assert.equal([modest.exitCode, modest.reason], [0, 'Completed'])
    const killed = await run(pod, FOREVER, memory(64))
    await daemon.call('StopContainer', { containerId: killed, timeout: '0' })
    const status = await statusOf(daemon, killed)
    assert.equal([status.exitCode, status.reason], [137, 'Error'])
  }))

test('a process that is killed for memory while the first one lives is told in metrics and message, not as OOMKilled', () =>
  inPod(async (pod) => {
    const id = await runContainer(daemon, pod, ['probe', 'trap', '1000'], {
      ...limited(memory(64)),
      stopSignal: 'SIGNAL_SIGUSR2',
    })
    await says(id, 'ready')
    assert.is(text(await cgroupOf(id), 'memory.oom.group'), '0')
    assert.is((await exec(id, 'memory', String(200 * MIB))).exitCode, 137)
    assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
    assert.is((await metricsOf(pod.id, id)).get('container_oom_events_total'), 1)
    await daemon.call('StopContainer', { containerId: id, timeout: '30' })
    const status = await statusOf(daemon, id)
    assert.equal([status.exitCode, status.reason], [3, 'Error'])
    assert.match(status.message, /killed a process of it, not the first one, for lack of memory/)
  }))

test('with memory.oom.group of unified a hog takes the whole container along', () =>
  inPod(async (pod) => {
    const id = await run(pod, FOREVER, { ...memory(64), unified: { 'memory.oom.group': '1' } })
    assert.is(text(await cgroupOf(id), 'memory.oom.group'), '1')
    await exec(id, 'memory', String(200 * MIB)).catch(() => {})
    const status = await exited(daemon, id)
    assert.equal([status.exitCode, status.reason], [137, 'OOMKilled'])
  }))

test('swap is what memory and swap together leave beside memory; a new limit of memory alone keeps it', () =>
  inPod(async (pod) => {
    const both = ['memory.max', 'memory.swap.max'] as const
    const cases: [Resources, string][] = [
      [memory(64), '0'],
      [memory(64, 32), String(32 * MIB)],
      [{ memoryLimitInBytes: String(64 * MIB), memorySwapLimitInBytes: '-1' }, 'max'],
      [{ memoryLimitInBytes: String(64 * MIB) }, 'max'],
    ]
    for (const [resources, swap] of cases) {
      const id = await run(pod, FOREVER, resources)
      assert.equal(files(await cgroupOf(id), ...both), [String(64 * MIB), swap])
      await update(id, { memoryLimitInBytes: String(80 * MIB) })
      assert.equal(files(await cgroupOf(id), ...both), [String(80 * MIB), swap])
    }
    const id = await run(pod, FOREVER, memory(64, 32))
    assert.is((await resourcesOf(id)).memorySwapLimitInBytes, String(96 * MIB))
    await update(id, { memoryLimitInBytes: String(80 * MIB) })
    assert.is((await resourcesOf(id)).memorySwapLimitInBytes, String(112 * MIB))
    const { code, text: why } = await refusal(pod, {
      memoryLimitInBytes: String(64 * MIB),
      memorySwapLimitInBytes: String(32 * MIB),
    })
    assert.is(code, INVALID_ARGUMENT)
    assert.match(why, /memory_swap_limit_in_bytes/)
  }))

const withSwap = needing(test, 'zram', 'program:mkswap', 'program:swapon')

withSwap('a container with swap outlives its memory, and the statistics say how much it uses', () =>
  withSwapDevice(() =>
    inPod(async (pod) => {
      const id = await holding(pod, 80, memory(48, 64))
      const { stats } = await daemon.call('ContainerStats', { containerId: id })
      const used = Number(text(await cgroupOf(id), 'memory.swap.current'))
      assert.ok(used > 24 * MIB, String(used))
      near(number(stats?.swap?.swapUsageBytes), used)
      assert.is(
        number(stats?.swap?.swapAvailableBytes) + number(stats?.swap?.swapUsageBytes),
        64 * MIB,
      )
      near((await metricsOf(pod.id, id)).get('container_memory_swap') ?? 0, used)
      const over = await exited(
        daemon,
        await run(pod, ['probe', 'memory', String(160 * MIB)], memory(48, 64)),
      )
      assert.is(over.reason, 'OOMKilled')
    }),
  ),
)

/** Swap of this machine while it is used. */
const withSwapDevice = (use: () => Promise<void>): Promise<void> =>
  withDevice(192, async (device) => {
    execFileSync('mkswap', [device], { stdio: 'ignore' })
    execFileSync('swapon', [device])
    try {
      await use()
    } finally {
      execFileSync('swapoff', [device])
    }
  })

/** A disk, compressed in memory: one that is a file in memory would be charged to the container that writes to it. */
async function withDevice(mib: number, use: (device: string) => Promise<void>): Promise<void> {
  const number = readFileSync(join(ZRAM, 'hot_add'), 'utf8').trim()
  try {
    writeFileSync(`/sys/block/zram${number}/disksize`, String(mib * MIB))
    await use(`/dev/zram${number}`)
  } finally {
    writeFileSync(join(ZRAM, 'hot_remove'), number)
  }
}

// -- updates ---------------------------------------------------------------------------------------------------------

test('an update of memory, cpu and pids is in force at once, and is what the status says', () =>
  inPod(async (pod) => {
    const id = await run(pod, FOREVER, {
      ...memory(256),
      cpuPeriod: '100000',
      cpuQuota: '100000',
      cpuShares: '512',
      unified: { 'pids.max': '100' },
    })
    const cgroup = await cgroupOf(id)
    const names = ['memory.max', 'memory.swap.max', 'cpu.max', 'cpu.weight', 'pids.max']
    assert.equal(files(cgroup, ...names), [String(256 * MIB), '0', '100000 100000', '59', '100'])
    // One dimension only, as the kubelet sends it: all else stays.
    await update(id, { cpuQuota: '25000', cpuPeriod: '100000', cpuShares: '102' })
    assert.equal(files(cgroup, ...names), [String(256 * MIB), '0', '25000 100000', '17', '100'])
    await update(id, memory(64))
    await update(id, { unified: { 'pids.max': '8' } })
    assert.equal(files(cgroup, ...names), [String(64 * MIB), '0', '25000 100000', '17', '8'])
    const { oomScoreAdj: _, ...now } = await resourcesOf(id)
    assert.equal(now, {
      cpuPeriod: '100000',
      cpuQuota: '25000',
      cpuShares: '102',
      cpusetCpus: '',
      cpusetMems: '',
      hugepageLimits: [],
      memoryLimitInBytes: String(64 * MIB),
      memorySwapLimitInBytes: String(64 * MIB),
      unified: { 'pids.max': '8' },
    })
    assert.match((await exec(id, 'fork-bomb', '100')).stdout.toString(), /^forked [4-7] EAGAIN\n$/)
    assert.is((await exec(id, 'memory', String(128 * MIB))).exitCode, 137)
    await update(id, { memoryLimitInBytes: '-1', cpuQuota: '-1' })
    assert.equal(files(cgroup, ...names), ['max', 'max', 'max 100000', '17', '8'])
  }))

test('an update before the start is in force at the start', () =>
  inPod(async (pod) => {
    const { containerId } = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(FOREVER, limited({ ...memory(64), cpuShares: '512' })),
    })
    await update(containerId, { ...memory(96), cpuQuota: '50000', cpuPeriod: '100000' })
    const { code, text: why } = await failure(update(containerId, { cpusetCpus: '0' }))
    if (lacks('cgroup:cpuset')) {
      assert.is(code, FAILED_PRECONDITION)
      assert.match(why, /cpuset/)
    }
    await daemon.call('StartContainer', { containerId })
    const names = ['memory.max', 'cpu.max', 'cpu.weight']
    assert.equal(files(await cgroupOf(containerId), ...names), [
      String(96 * MIB),
      '50000 100000',
      '59',
    ])
  }))

test('an update that cannot be fails, and neither cgroup nor status nor process have changed', () =>
  inPod(async (pod) => {
    const before = { ...memory(128), cpuShares: '512', cpuQuota: '50000', cpuPeriod: '100000' }
    const id = await holding(pod, 64, before)
    const cgroup = await cgroupOf(id)
    const names = ['memory.max', 'memory.swap.max', 'cpu.max', 'cpu.weight', 'pids.max']
    const [inForce, told] = [files(cgroup, ...names), await resourcesOf(id)]
    const impossible: [Resources, number, RegExp][] = [
      // Below what it holds: the kernel would make room by killing it.
      [{ ...memory(32), cpuShares: '102', cpuQuota: '20000' }, FAILED_PRECONDITION, /in use/],
      [{ cpuShares: '102', unified: { 'memory.high': 'much' } }, INVALID_ARGUMENT, /memory\.high/],
      [{ cpuShares: '102', unified: { 'pids.none': '1' } }, FAILED_PRECONDITION, /pids\.none/],
      [{ cpuShares: '102', unified: { 'cgroup.kill': '1' } }, INVALID_ARGUMENT, /cgroup\.kill/],
      [{ cpuShares: '102', cpuQuota: '999' }, INVALID_ARGUMENT, /cpu_quota/],
      [{ memorySwapLimitInBytes: String(64 * MIB) }, INVALID_ARGUMENT, /memory_swap_limit/],
    ]
    for (const [resources, code, why] of impossible) {
      const failed = await failure(update(id, resources))
      assert.is(failed.code, code, failed.text)
      assert.match(failed.text, why)
      assert.equal(files(cgroup, ...names), inForce, failed.text)
      assert.equal(await resourcesOf(id), told, failed.text)
    }
    assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
    // What a new daemon reads is the same.
    await daemon.end()
    await daemon.start()
    assert.equal(await resourcesOf(id), told)
  }))

const withDisk = needing(test, 'zram', 'program:mkfs.ext4')

withDisk('page cache does not keep a limit from being lowered', () =>
  withDevice(192, async (device) => {
    const hostPath = join(daemon.berth.directory, 'disk')
    mkdirSync(hostPath)
    execFileSync('mkfs.ext4', ['-q', device])
    execFileSync('mount', [device, hostPath])
    try {
      await inPod(async (pod) => {
        const id = await runContainer(daemon, pod, FOREVER, {
          ...limited(memory(256)),
          mounts: [{ containerPath: '/disk', hostPath }],
        })
        const cgroup = await cgroupOf(id)
        await exec(id, 'fill', '/disk/file', String(96 * MIB))
        assert.ok(Number(text(cgroup, 'memory.current')) > 80 * MIB)
        await update(id, memory(48))
        assert.is(text(cgroup, 'memory.max'), String(48 * MIB))
        assert.ok(Number(text(cgroup, 'memory.current')) <= 48 * MIB)
        assert.is((await statusOf(daemon, id)).state, 'CONTAINER_RUNNING')
      })
    } finally {
      execFileSync('umount', [hostPath])
    }
  }),
)

test('of a container that has ended, and of nothing, nothing is updated', () =>
  inPod(async (pod) => {
    const id = await run(pod, ['probe', 'true'], memory(64))
    await exited(daemon, id)
    assert.is((await failure(update(id, memory(96)))).code, FAILED_PRECONDITION)
    assert.is((await resourcesOf(id)).memoryLimitInBytes, String(64 * MIB))
  }))

// -- cpu and pids ----------------------------------------------------------------------------------------------------

test('a quota of half a processor halves a busy loop, within a tenth', () =>
  inPod(async (pod) => {
    const id = await run(pod, ['probe', 'spin', '600'], { cpuQuota: '50000', cpuPeriod: '100000' })
    const cgroup = await cgroupOf(id)
    const share = await shareUnderQuota(0.45, (key) => value(cgroup, 'cpu.stat', key))
    assert.ok(share > 0.45 && share < 0.55, `${share} of a processor`)
    // By the kernel's own count: a host that is busy leaves periods in which the loop did not get as far as its quota.
    const throttled = (): number => value(cgroup, 'cpu.stat', 'nr_throttled')
    const before = throttled()
    const values = await metricsOf(pod.id, id)
    const told = values.get('container_cpu_cfs_throttled_periods_total') ?? 0
    assert.ok(before > 0 && told >= before && told <= throttled(), `${told}, ${before} before`)
    assert.is(values.get('container_spec_cpu_quota'), 50_000)
  }))

test('shares are the weight that runc and crun give them', () =>
  inPod(async (pod) => {
    const id = await run(pod, FOREVER, { cpuShares: '2' })
    const cgroup = await cgroupOf(id)
    assert.is(text(cgroup, 'cpu.weight'), '1')
    for (const [shares, weight] of [
      [102, 17],
      [512, 59],
      [1024, 100],
      [262_144, 10_000],
    ]) {
      await update(id, { cpuShares: String(shares) })
      assert.is(text(cgroup, 'cpu.weight'), String(weight), `${shares} shares`)
    }
  }))

test('pids.max of unified stops a fork bomb, and the machine and the daemon go on', () =>
  inPod(async (pod) => {
    const id = await run(pod, ['probe', 'fork-bomb', '1000'], { unified: { 'pids.max': '32' } })
    const { exitCode } = await exited(daemon, id)
    assert.is(exitCode, 0)
    await says(id, 'forked 31 EAGAIN')
  }))

// -- unified, and what is refused by name ----------------------------------------------------------------------------

test('files of unified are written as they are, after all else', () =>
  inPod(async (pod) => {
    const unified = {
      'memory.high': String(48 * MIB),
      'memory.low': String(8 * MIB),
      'memory.min': String(4 * MIB),
      'cpu.weight': '77',
      'cpu.max': '30000 100000',
      'cgroup.max.descendants': '5',
    }
    const id = await run(pod, FOREVER, { ...memory(64), cpuShares: '512', unified })
    assert.equal(files(await cgroupOf(id), ...Object.keys(unified)), Object.values(unified))
    assert.equal((await resourcesOf(id)).unified, unified)
  }))

test('a file of unified that is none, moves or leads elsewhere is refused by name, and no container is left', () =>
  inPod(async (pod) => {
    for (const file of ['cgroup.procs', 'cgroup.freeze', 'none.max', '../memory.max', 'a/b.max']) {
      const { code, text: why } = await refusal(pod, { unified: { [file]: '1' } })
      assert.is(code, INVALID_ARGUMENT, why)
      assert.ok(why.includes(`"${file}"`), why)
    }
    assert.equal((await daemon.call('ListContainers')).containers, [])
  }))

test('huge pages: 0 of every size is no limit to refuse where there is no controller; another is refused by name', () =>
  inPod(async (pod) => {
    if (!lacks('cgroup:hugetlb')) return
    const sizes = ['2MB', '1GB', '64KB']
    const id = await run(pod, FOREVER, {
      hugepageLimits: sizes.map((pageSize) => ({ pageSize, limit: '0' })),
    })
    assert.is((await resourcesOf(id)).hugepageLimits.length, 3)
    const { code, text: why } = await refusal(pod, {
      hugepageLimits: [{ pageSize: '2MB', limit: String(2 * MIB) }],
    })
    assert.is(code, FAILED_PRECONDITION)
    assert.match(why, /hugepageLimits.*"hugetlb"/)
    const failed = await failure(
      update(id, { hugepageLimits: [{ pageSize: '2MB', limit: String(2 * MIB) }] }),
    )
    assert.match(failed.text, /hugepageLimits.*"hugetlb"/)
    assert.ok((await resourcesOf(id)).hugepageLimits.every(({ limit }) => limit === '0'))
  }))

test('a cpuset is refused by name where there is no controller, when it is asked for', () =>
  inPod(async (pod) => {
    if (!lacks('cgroup:cpuset')) return
    for (const resources of [{ cpusetCpus: '0' }, { cpusetMems: '0' }]) {
      const { code, text: why } = await refusal(pod, resources)
      assert.is(code, FAILED_PRECONDITION)
      assert.match(why, /cpu\.(cpus|mems).*"cpuset"/)
    }
    assert.equal((await daemon.call('ListContainers')).containers, [])
    const id = await run(pod, FOREVER)
    assert.match((await failure(update(id, { cpusetCpus: '0' }))).text, /cpu\.cpus.*"cpuset"/)
    assert.is((await resourcesOf(id)).cpusetCpus, '')
  }))

// -- the pod's cgroup ------------------------------------------------------------------------------------------------

const TOP = `/berth-test-${process.pid}`
const top = join(cgroupRoot(), TOP)

test("a pod's cgroup that the client made: containers are below it, its limits hold for all, and it stays", async () => {
  // As the kubelet makes it.
  const parent = `${TOP}/burstable/pod1`
  for (const directory of [
    cgroupRoot(),
    top,
    join(top, 'burstable'),
    join(top, 'burstable/pod1'),
  ]) {
    mkdirSync(directory, { recursive: true })
    if (directory.endsWith('pod1')) break
    writeFileSync(join(directory, 'cgroup.subtree_control'), '+cpu +memory +pids')
  }
  const cgroup = join(cgroupRoot(), parent)
  for (const [file, limit] of [
    ['memory.max', String(96 * MIB)],
    ['memory.swap.max', '0'],
    ['pids.max', '40'],
  ] as const) {
    writeFileSync(join(cgroup, file), limit)
  }
  await inPod(
    async (pod) => {
      const one = await holding(pod, 32, {})
      assert.is(await cgroupOf(one), join(cgroup, one))
      // None of the two has a limit of its own.
      const two = await run(pod, ['probe', 'memory', String(200 * MIB)])
      assert.equal(
        [(await exited(daemon, two)).exitCode, (await statusOf(daemon, two)).reason],
        [137, 'OOMKilled'],
      )
      assert.is((await statusOf(daemon, one)).state, 'CONTAINER_RUNNING')
      const bomb = await exec(one, 'fork-bomb', '1000')
      assert.match(bomb.stdout.toString(), /^forked 3\d EAGAIN\n$/)
      const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
      const linux = stats?.linux
      near(number(linux?.memory?.usageBytes), Number(text(cgroup, 'memory.current')))
      const available = number(linux?.memory?.availableBytes)
      assert.is(available + number(linux?.memory?.workingSetBytes), 96 * MIB)
      assert.is(number(linux?.process?.processCount), Number(text(cgroup, 'pids.current')))
      await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
      assert.equal(directoriesOf(cgroup), [])
    },
    { linux: { cgroupParent: parent, ...context() } },
  )
  assert.is(text(cgroup, 'memory.max'), String(96 * MIB))
  for (const directory of [cgroup, join(top, 'burstable'), top]) rmdirSync(directory)
})

const directoriesOf = (cgroup: string): string[] =>
  readdirSync(cgroup, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)

const near = (is: number, expected: number): void =>
  assert.ok(Math.abs(is - expected) <= 4 * MIB, `${is} is not about ${expected}`)

test("a pod's cgroup that nobody had made goes with the pod", async () => {
  mkdirSync(top)
  const parent = `${TOP}/pod2`
  await inPod(
    async (pod) => {
      const id = await run(pod, FOREVER, memory(64))
      assert.is(await cgroupOf(id), join(cgroupRoot(), parent, id))
      assert.is(text(await cgroupOf(id), 'memory.max'), String(64 * MIB))
    },
    { linux: { cgroupParent: parent, ...context() } },
  )
  assert.not(existsSync(join(cgroupRoot(), parent)))
  rmdirSync(top)
})

test('the first process of a shared PID namespace is in the cgroup of the pod, and goes with it', async () => {
  const parent = join(TOP, 'pod3')
  const cgroup = join(cgroupRoot(), parent)
  mkdirSync(cgroup, { recursive: true })
  await inPod(
    async (pod) => {
      const own = join(cgroup, pod.id)
      const [pid, ...others] = text(own, 'cgroup.procs').split('\n')
      assert.equal(others, [])
      assert.is(readFileSync(`/proc/${pid}/comm`, 'utf8'), 'berth-pause\n')
      const id = await runContainer(daemon, pod, FOREVER, { linux: context('POD') })
      assert.equal(directoriesOf(cgroup).sort(), [pod.id, id].sort())
      const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
      assert.is(number(stats?.linux?.process?.processCount), 2)
      await daemon.call('StopPodSandbox', { podSandboxId: pod.id })
      assert.equal(directoriesOf(cgroup), [])
    },
    { linux: { cgroupParent: parent, ...context('POD') } },
  )
  for (const directory of [cgroup, top]) rmdirSync(directory)
})

// -- statistics ------------------------------------------------------------------------------------------------------

test('statistics are what the cgroup says', () =>
  inPod(async (pod) => {
    const id = await holding(pod, 48, { ...memory(128), unified: { 'pids.max': '50' } })
    await exec(id, 'background', '1000')
    const cgroup = await cgroupOf(id)
    const look = async () => {
      const { stats } = await daemon.call('ContainerStats', { containerId: id })
      if (!stats) throw new Error('no statistics')
      return stats
    }
    const first = await look()
    const used = first.memory
    near(number(used?.usageBytes), Number(text(cgroup, 'memory.current')))
    near(number(used?.rssBytes), value(cgroup, 'memory.stat', 'anon'))
    assert.ok(number(used?.rssBytes) >= 48 * MIB)
    near(
      number(used?.workingSetBytes),
      Number(text(cgroup, 'memory.current')) - value(cgroup, 'memory.stat', 'inactive_file'),
    )
    assert.is(number(used?.availableBytes) + number(used?.workingSetBytes), 128 * MIB)
    assert.ok(number(used?.pageFaults) >= (48 * MIB) / 4096)
    assert.is(number(first.swap?.swapUsageBytes), 0)
    assert.is(number(first.swap?.swapAvailableBytes), 0)
    const usec = value(cgroup, 'cpu.stat', 'usage_usec')
    assert.ok(number(first.cpu?.usageCoreNanoSeconds) <= usec * 1000)
    assert.ok(number(first.cpu?.usageCoreNanoSeconds) > 0)
    const hasPressure = existsSync(join(cgroup, 'memory.pressure'))
    for (const of of [first.cpu, first.memory, first.io]) {
      assert.is(of?.psi != null, hasPressure)
    }
    await delay(1100)
    assert.ok(number((await look()).cpu?.usageNanoCores) >= 0)
    const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
    assert.is(number(stats?.linux?.process?.processCount), 2)
    near(number(stats?.linux?.memory?.usageBytes), Number(text(cgroup, 'memory.current')))
    const { stats: all } = await daemon.call('ListContainerStats')
    assert.equal(
      all.map(({ attributes }) => attributes?.id),
      [id],
    )
  }))

test('a container that goes away while it is measured costs nobody the others', async () => {
  const [gone, there] = [join(cgroupRoot(), 'gone'), join(cgroupRoot(), 'there')]
  // With controllers that its parent does not hand down.
  const bare = join(there, 'bare')
  mkdirSync(bare, { recursive: true })
  const rates = new Rates()
  try {
    const samples = await sampleAll(rates, [gone, there, bare])
    assert.equal(samples.get(gone)?.usage.memoryBytes, undefined)
    assert.is(samples.get(gone)?.processes, 0)
    assert.is(samples.get(there)?.usage.pids, 0)
    assert.is(samples.get(bare)?.processes, 0)
  } finally {
    for (const directory of [bare, there]) {
      rates.forget(directory)
      rmdirSync(directory)
    }
  }
})

async function metricsOf(podId: string, id: string): Promise<Map<string, number>> {
  const { podMetrics } = await daemon.call('ListPodSandboxMetrics')
  const pod = podMetrics.find(({ podSandboxId }) => podSandboxId === podId)
  const of = pod?.containerMetrics.find(({ containerId }) => containerId === id)
  if (!of) throw new Error(`no metrics of ${id}`)
  // Behind the labels that all have.
  return new Map(
    of.metrics.map(({ name, labelValues, value }) => [
      [name, ...labelValues.slice(6)].join(' '),
      number(value),
    ]),
  )
}

test('metrics are what the controllers say', () =>
  inPod(async (pod) => {
    const id = await holding(pod, 48, { ...memory(128), unified: { 'pids.max': '50' } })
    const cgroup = await cgroupOf(id)
    const values = await metricsOf(pod.id, id)
    const of = (name: string): number => values.get(`container_${name}`) ?? -1
    near(of('memory_usage_bytes'), Number(text(cgroup, 'memory.current')))
    near(of('memory_rss'), value(cgroup, 'memory.stat', 'anon'))
    near(of('memory_cache'), value(cgroup, 'memory.stat', 'file'))
    near(of('memory_kernel_usage'), value(cgroup, 'memory.stat', 'kernel'))
    assert.ok(of('memory_max_usage_bytes') >= 48 * MIB)
    assert.is(of('memory_swap'), 0)
    assert.is(of('spec_memory_limit_bytes'), 128 * MIB)
    assert.is(of('threads_max'), 50)
    assert.is(of('threads'), 1)
    assert.is(of('oom_events_total'), 0)
    // A hog that is killed, and one that is held back.
    assert.is((await exec(id, 'memory', String(200 * MIB))).exitCode, 137)
    const after = await metricsOf(pod.id, id)
    assert.is(after.get('container_oom_events_total'), value(cgroup, 'memory.events', 'oom_kill'))
    assert.ok((after.get('container_memory_failcnt') ?? 0) > 0)
  }))

// -- devices ---------------------------------------------------------------------------------------------------------

test('a device that was not given is EPERM even for who makes its node', () =>
  inPod(async (pod) => {
    const id = await run(pod, FOREVER)
    assert.is((await exec(id, 'mknod', '/kmsg', 'c', '1', '11')).exitCode, 0)
    const { exitCode, stderr } = await exec(id, 'open', '/kmsg', 'r')
    assert.is(exitCode, 1)
    assert.match(stderr.toString(), /EPERM/)
    // One that every container has.
    await exec(id, 'mknod', '/zero', 'c', '1', '5')
    assert.is((await exec(id, 'open', '/zero', 'r')).exitCode, 0)
  }))

test('a device that was given opens under its new name, as far as it was given', () =>
  inPod(async (pod) => {
    const id = await runContainer(daemon, pod, FOREVER, {
      devices: [{ containerPath: '/dev/messages', hostPath: '/dev/kmsg', permissions: 'r' }],
    })
    assert.is((await exec(id, 'open', '/dev/messages', 'r')).exitCode, 0)
    const { exitCode, stderr } = await exec(id, 'open', '/dev/messages', 'w')
    assert.is(exitCode, 1)
    assert.match(stderr.toString(), /EPERM/)
    // An update of limits does not open or close any.
    await update(id, memory(64))
    assert.is((await exec(id, 'open', '/dev/messages', 'r')).exitCode, 0)
    assert.is((await exec(id, 'open', '/dev/messages', 'w')).exitCode, 1)
  }))

// -- what others do to a cgroup --------------------------------------------------------------------------------------

const isFrozen = (cgroup: string) => /^frozen 1$/m.test(text(cgroup, 'cgroup.events'))

test('a container that somebody froze gets its stop signal, and SIGKILL', () =>
  inPod(async (pod) => {
    const freeze = async (id: string): Promise<void> => {
      const cgroup = await cgroupOf(id)
      writeFileSync(join(cgroup, 'cgroup.freeze'), '1')
      await eventually('it is frozen', () => isFrozen(cgroup))
    }
    const polite = await runContainer(daemon, pod, ['probe', 'trap', '1000'], {
      stopSignal: 'SIGNAL_SIGUSR2',
    })
    await says(polite, 'ready')
    await freeze(polite)
    // It still answers, and tells what it uses.
    assert.is((await statusOf(daemon, polite)).state, 'CONTAINER_RUNNING')
    await daemon.call('ContainerStats', { containerId: polite })
    await daemon.call('StopContainer', { containerId: polite, timeout: '30' })
    assert.is((await statusOf(daemon, polite)).exitCode, 3)
    const hurried = await run(pod, FOREVER)
    await freeze(hurried)
    await daemon.call('StopContainer', { containerId: hurried, timeout: '0' })
    assert.is((await statusOf(daemon, hurried)).exitCode, 137)
    const removed = await run(pod, FOREVER)
    await freeze(removed)
    await daemon.call('RemoveContainer', { containerId: removed })
    assert.is((await daemon.call('ListContainers')).containers.length, 2)
  }))

test('in a pod that somebody froze as a whole, a stop has its time and no more', async () => {
  const parent = join(TOP, 'pod4')
  const cgroup = join(cgroupRoot(), parent)
  mkdirSync(cgroup, { recursive: true })
  await inPod(
    async (pod) => {
      const id = await run(pod, FOREVER)
      writeFileSync(join(cgroup, 'cgroup.freeze'), '1')
      await eventually('it is frozen', () => isFrozen(cgroup))
      const begin = performance.now()
      await daemon.call('StopContainer', { containerId: id, timeout: '1' })
      const seconds = (performance.now() - begin) / 1000
      assert.ok(seconds < 8, `${seconds} s`)
      assert.is((await statusOf(daemon, id)).exitCode, 137)
    },
    { linux: { cgroupParent: parent, ...context() } },
  )
  for (const directory of [cgroup, top]) rmdirSync(directory)
})

// -- a daemon that was killed ----------------------------------------------------------------------------------------

test('a daemon that was killed finds limits as they were, and why containers died meanwhile', () =>
  inPod(async (pod) => {
    const [died, lives] = [
      await holding(pod, 64, memory(128)),
      await holding(pod, 32, { ...memory(128), cpuShares: '512' }),
    ]
    const ends = await run(pod, ['probe', 'sleep', '1'])
    await update(lives, { cpuQuota: '30000', cpuPeriod: '100000' })
    const [cgroup, dying] = [await cgroupOf(lives), await cgroupOf(died)]
    const names = ['memory.max', 'memory.swap.max', 'cpu.max', 'cpu.weight']
    const [inForce, told] = [files(cgroup, ...names), await resourcesOf(lives)]
    await daemon.end('SIGKILL')
    // Below what it holds: the kernel's killer comes.
    try {
      writeFileSync(join(dying, 'memory.max'), String(8 * MIB))
    } catch {
      // It is gone already.
    }
    await eventually('it is gone', () => !existsSync(dying))
    await delay(1000)
    await daemon.start()
    const status = await statusOf(daemon, died)
    assert.equal(
      [status.state, status.exitCode, status.reason],
      ['CONTAINER_EXITED', 137, 'OOMKilled'],
    )
    const ended = await exited(daemon, ends)
    assert.equal([ended.exitCode, ended.reason], [0, 'Completed'])
    assert.equal(files(cgroup, ...names), inForce)
    assert.equal(await resourcesOf(lives), told)
    await update(lives, { cpuQuota: '40000', cpuPeriod: '100000' })
    assert.is(text(cgroup, 'cpu.max'), '40000 100000')
    // Its later end is seen, too.
    writeFileSync(join(cgroup, 'memory.max'), String(8 * MIB))
    assert.is((await exited(daemon, lives)).reason, 'OOMKilled')
  }))

test.after.each(async () => {
  // What a failed claim has left must not fail the next one.
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
