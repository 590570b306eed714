/**
 * Statistics and metrics over the real socket, against what can be known. The file runs in a network namespace of its own, which plays the host
 * for the pods' network.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type * as cri from '../../src/spec/cri.ts'
import { CriDaemon, failure, HELLO, logLines, runContainer, runPod, statusOf } from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { cgroupRoot, lacks, needing, needs } from '../lib/needs.ts'
import { enterNetworkNamespace } from '../lib/network-namespace.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'program:unshare', 'program:ip')

enterNetworkNamespace(import.meta.url)

const FAILED_PRECONDITION = 9
const NOT_FOUND = 5
const MIB = 1024 * 1024
const NAMESPACES = { network: 'POD', pid: 'CONTAINER', ipc: 'POD' } as const
const inPodNetwork = { linux: { securityContext: { namespaceOptions: NAMESPACES } } }

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

test('the daemon starts', async () => {
  writeFileSync(
    join(daemon.netConf, '10-test.conflist'),
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'test',
      plugins: [
        {
          type: 'ptp',
          ipam: {
            type: 'host-local',
            dataDir: join(daemon.berth.directory, 'leases'),
            ranges: [[{ subnet: '10.98.0.0/24' }]],
            routes: [{ dst: '0.0.0.0/0' }],
          },
        },
      ],
    }),
  )
  await daemon.loadHello()
  await daemon.start()
})

// -- statistics ------------------------------------------------------------------------------------------------------

async function statsOf(containerId: string): Promise<cri.ContainerStats> {
  const { stats } = await daemon.call('ContainerStats', { containerId })
  if (!stats) throw new Error('no stats')
  return stats
}

const number = (value: { value: string } | null | undefined): number => Number(value?.value ?? -1)

test('CPU time grows, and a second look gives its rate', async () => {
  const pod = await runPod(daemon)
  const busy = await runContainer(daemon, pod, ['probe', 'spin', '1000'])
  const idle = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const first = await statsOf(busy)
  assert.is(first.attributes?.id, busy)
  assert.is(first.cpu?.usageNanoCores, null)
  await statsOf(idle)
  await delay(1100)
  const second = await statsOf(busy)
  const used = number(second.cpu?.usageCoreNanoSeconds) - number(first.cpu?.usageCoreNanoSeconds)
  assert.ok(used > 0)
  const elapsed = (Number(second.cpu?.timestamp) - Number(first.cpu?.timestamp)) / 1e9
  const rate = number(second.cpu?.usageNanoCores)
  assert.ok(Math.abs(rate / (used / elapsed) - 1) < 0.01, `${rate} of ${used} in ${elapsed} s`)
  assert.ok(number((await statsOf(idle)).cpu?.usageNanoCores) < rate / 2)
  const { stats } = await daemon.call('ListContainerStats', { filter: { id: busy } })
  assert.equal(
    stats.map(({ attributes }) => attributes?.id),
    [busy],
  )
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('memory that a program touches is in its statistics', async () => {
  const pod = await runPod(daemon)
  const small = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const large = await runContainer(daemon, pod, ['probe', 'memory', String(64 * MIB), '1000'])
  await touched(large)
  const [of, than] = [(await statsOf(large)).memory, (await statsOf(small)).memory]
  for (const key of ['usageBytes', 'workingSetBytes', 'rssBytes'] as const) {
    assert.ok(number(than?.[key]) > 0, key)
    assert.ok(number(of?.[key]) - number(than?.[key]) > 60 * MIB, key)
  }
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

const touched = (id: string) =>
  eventually('the memory is touched', async () =>
    readFileSync((await statusOf(daemon, id)).logPath, 'utf8').includes('touched'),
  )

test('what a container has written is in its writable layer', async () => {
  const pod = await runPod(daemon)
  const quiet = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const writing = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  await fill(writing, '/written', 8 * MIB)
  const layer = (id: string) =>
    eventually('the first measurement', async () => (await statsOf(id)).writableLayer ?? false)
  const [of, than] = [await layer(writing), await layer(quiet)]
  assert.is(of.fsId?.mountpoint, daemon.berth.root)
  assert.ok(number(of.usedBytes) - number(than.usedBytes) >= 8 * MIB)
  assert.ok(number(of.inodesUsed) > number(than.inodesUsed))
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

async function fill(containerId: string, file: string, bytes: number): Promise<void> {
  const cmd = ['probe', 'fill', file, String(bytes)]
  const { exitCode, stderr } = await daemon.call('ExecSync', { containerId, cmd })
  assert.is(exitCode, 0, stderr.toString())
}

test('of what does not run, or is not there, there are no statistics', async () => {
  const pod = await runPod(daemon)
  const containerId = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  await daemon.call('StopContainer', { containerId, timeout: '0' })
  const { code } = await failure(daemon.call('ContainerStats', { containerId }))
  assert.is(code, FAILED_PRECONDITION)
  assert.equal((await daemon.call('ListContainerStats')).stats, [])
  assert.equal((await metricsOf(pod.id))?.containerMetrics, [])
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  const gone = await failure(daemon.call('PodSandboxStats', { podSandboxId: pod.id }))
  assert.is(gone.code, NOT_FOUND)
})

test("a pod's statistics are those of its containers", async () => {
  const pod = await runPod(daemon)
  const ids = [
    await runContainer(daemon, pod, ['probe', 'spin', '1000']),
    await runContainer(daemon, pod, ['probe', 'sleep', '1000']),
  ]
  await background(ids[1] ?? '')
  const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
  const linux = stats?.linux
  assert.equal(linux?.containers.map(({ attributes }) => attributes?.id).sort(), [...ids].sort())
  assert.is(number(linux?.process?.processCount), 3)
  assert.ok(number(linux?.cpu?.usageCoreNanoSeconds) > 0)
  assert.ok(number(linux?.memory?.workingSetBytes) > 0)
  // It has the host's network.
  assert.is(linux?.network, null)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

/** A second process in the container, in the background. */
async function background(containerId: string): Promise<void> {
  const cmd = ['probe', 'background', '1000']
  const { exitCode } = await daemon.call('ExecSync', { containerId, cmd })
  assert.is(exitCode, 0)
}

// -- metrics ---------------------------------------------------------------------------------------------------------

async function metricsOf(podId: string): Promise<cri.PodSandboxMetrics | undefined> {
  const { podMetrics } = await daemon.call('ListPodSandboxMetrics')
  return podMetrics.find(({ podSandboxId }) => podSandboxId === podId)
}

/** A container's values by name, with the metric's own labels where it has some: `NAME{LABEL,…}`. */
async function valuesOf(podId: string, id: string): Promise<Map<string, number>> {
  const metrics = await metricsOf(podId)
  const of = metrics?.containerMetrics.find(({ containerId }) => containerId === id)
  if (!of) throw new Error(`no metrics of ${id}`)
  return byName(of.metrics)
}

const BASE = 6

const byName = (metrics: readonly cri.Metric[]): Map<string, number> =>
  new Map(
    metrics.map(({ name, labelValues, value }) => {
      const own = labelValues.slice(BASE)
      return [own.length === 0 ? name : `${name}{${own.join()}}`, number(value)]
    }),
  )

test('every value has a descriptor, its labels in their order, and no two are alike', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const { descriptors } = await daemon.call('ListMetricDescriptors')
  const keys = new Map(descriptors.map((each) => [each.name, each.labelKeys]))
  const found = await metricsOf(pod.id)
  assert.equal(
    found?.containerMetrics.map(({ containerId }) => containerId),
    [id],
  )
  const all = [...(found?.metrics ?? []), ...(found?.containerMetrics[0]?.metrics ?? [])]
  for (const { name, labelValues, value } of all) {
    assert.is(labelValues.length, keys.get(name)?.length, name)
    assert.match(value?.value ?? '', /^\d+$/)
  }
  // Prometheus refuses the whole answer for one series that comes twice.
  const series = all.map(({ name, labelValues }) => JSON.stringify([name, labelValues]))
  assert.is(new Set(series).size, series.length)
  const metadata = pod.config.metadata
  const threads = found?.containerMetrics[0]?.metrics.find(
    ({ name }) => name === 'container_threads',
  )
  const labels = new Map(
    (keys.get('container_threads') ?? []).map((key, i) => [key, threads?.labelValues[i]]),
  )
  const status = await statusOf(daemon, id)
  assert.is(labels.get('name'), id)
  assert.is(labels.get('image'), HELLO)
  assert.is(labels.get('container'), status.metadata?.name)
  assert.is(labels.get('pod'), metadata?.name)
  assert.is(labels.get('namespace'), 'test')
  assert.ok(existsSync(join(cgroupRoot(), labels.get('id') ?? '', 'cgroup.procs')))
  const parts = await daemon.client.list('StreamPodSandboxMetrics')
  assert.equal(
    parts.flatMap((part) => part.podSandboxMetrics.map(({ podSandboxId }) => podSandboxId)),
    [pod.id],
  )
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  assert.equal(await daemon.client.list('StreamPodSandboxMetrics'), [])
})

test('processes, threads, files and sockets are counted', async () => {
  const pod = await runPod(daemon)
  const one = await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
  const two = await runContainer(daemon, pod, ['probe', 'listen', 'unix:/socket', '-', 'hello'])
  const { logPath } = await statusOf(daemon, two)
  await eventually('it listens', () => logLines(logPath).includes('listening'))
  const alone = await valuesOf(pod.id, one)
  assert.equal(
    ['processes', 'threads', 'threads_max', 'sockets'].map((n) => alone.get(`container_${n}`)),
    [1, 1, 0, 0],
  )
  await background(one)
  const both = await valuesOf(pod.id, one)
  assert.is(both.get('container_processes'), 2)
  assert.is(both.get('container_threads'), 2)
  assert.is((await valuesOf(pod.id, two)).get('container_sockets'), 1)
  const labels = (await metricsOf(pod.id))?.containerMetrics.find(
    ({ containerId }) => containerId === one,
  )?.metrics[0]?.labelValues
  // An exec's processes are in a group below the container's.
  const group = join(cgroupRoot(), labels?.[0] ?? '')
  const groups = readdirSync(group, { recursive: true, encoding: 'utf8' })
  const pids = groups
    .filter((path) => basename(path) === 'cgroup.procs')
    .map((path) => readFileSync(join(group, path), 'utf8'))
    .join('')
  const files = pids
    .trim()
    .split('\n')
    .flatMap((pid) => readdirSync(`/proc/${pid}/fd`))
  assert.is(both.get('container_file_descriptors'), files.length)
  const first = pids.split('\n')[0]
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${first}/limits`, 'utf8'))?.[1]
  assert.is(both.get('container_ulimits_soft{max_open_files}'), Number(soft))
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('memory, page faults and CPU time are told, and the peak stays', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'spin', '1000'])
  const before = await valuesOf(pod.id, id)
  // In the background of the container: killed, its memory is gone.
  const exec = daemon.call('ExecSync', {
    containerId: id,
    cmd: ['probe', 'memory', String(64 * MIB), '1000'],
    timeout: '3',
  })
  exec.catch(() => {})
  const faults = 'container_memory_failures_total{pgfault,container}'
  const rss = 'container_memory_rss'
  const during = await eventually('the memory is touched', async () => {
    const values = await valuesOf(pod.id, id)
    return (values.get(rss) ?? 0) - (before.get(rss) ?? 0) > 60 * MIB && values
  })
  for (const name of ['usage_bytes', 'working_set_bytes', 'max_usage_bytes']) {
    const grown =
      (during.get(`container_memory_${name}`) ?? 0) - (before.get(`container_memory_${name}`) ?? 0)
    assert.ok(grown > 60 * MIB, name)
  }
  assert.ok((during.get(faults) ?? 0) - (before.get(faults) ?? 0) > 0)
  assert.ok((during.get('container_memory_kernel_usage') ?? 0) > 0)
  await failure(exec)
  const after = await valuesOf(pod.id, id)
  assert.ok((after.get(rss) ?? 0) - (before.get(rss) ?? 0) < 10 * MIB)
  assert.ok((after.get('container_memory_max_usage_bytes') ?? 0) > 60 * MIB)
  assert.ok((after.get(faults) ?? 0) >= (during.get(faults) ?? 0))
  const cpu = 'container_cpu_usage_seconds_total{total}'
  await eventually(
    'two seconds of CPU',
    async () => {
      const values = await valuesOf(pod.id, id)
      return (values.get(cpu) ?? 0) >= 2
    },
    { withinMs: 60_000, everyMs: 200 },
  )
  const { cpu: stats } = await statsOf(id)
  const end = await valuesOf(pod.id, id)
  const seconds = number(stats?.usageCoreNanoSeconds) / 1e9
  assert.ok(Math.abs((end.get(cpu) ?? 0) - seconds) < 2)
  assert.ok((end.get('container_cpu_user_seconds_total') ?? 0) >= 1)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

test('start, limits and the writable layer are told at the first look', async () => {
  const pod = await runPod(daemon)
  const id = await runContainer(daemon, pod, ['probe', 'sleep', '1000'], {
    linux: {
      securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
      resources: {
        cpuPeriod: '100000',
        cpuQuota: '20000',
        cpuShares: '512',
        memoryLimitInBytes: String(64 * MIB),
        memorySwapLimitInBytes: String(64 * MIB),
      },
    },
  })
  await fill(id, '/written', 8 * MIB)
  const found = (await metricsOf(pod.id))?.containerMetrics[0]?.metrics ?? []
  const values = byName(found)
  assert.equal(
    [
      'cpu_period',
      'cpu_quota',
      'cpu_shares',
      'memory_limit_bytes',
      'memory_swap_limit_bytes',
      'memory_reservation_limit_bytes',
    ].map((name) => values.get(`container_spec_${name}`)),
    [100_000, 20_000, 512, 64 * MIB, 64 * MIB, 0],
  )
  const { startedAt } = await statusOf(daemon, id)
  const started = Math.floor(Number(startedAt) / 1e9)
  assert.is(values.get('container_start_time_seconds'), started)
  assert.ok(Math.abs((values.get('container_last_seen') ?? 0) - Date.now() / 1000) < 30)
  const usage = found.find(({ name }) => name === 'container_fs_usage_bytes')
  const device = usage?.labelValues[BASE]
  assert.ok(number(usage?.value) >= 8 * MIB)
  // It is as old as its measurement; all else is of this moment.
  assert.ok(Math.abs(Number(usage?.timestamp) / 1e6 - Date.now()) < 30_000)
  const inodes = found.find(({ name }) => name === 'container_fs_inodes_total')
  assert.is(inodes?.timestamp, usage?.timestamp)
  assert.equal(
    new Set(
      found.filter((each) => each !== usage && each !== inodes).map((each) => each.timestamp),
    ),
    new Set(['0']),
  )
  const limit = values.get(`container_fs_limit_bytes{${device}}`) ?? 0
  assert.ok(limit > 8 * MIB)
  // Of the layer alone, as cAdvisor counts: the kubelet's own conformance test allows 100 for a small container.
  assert.ok(number(inodes?.value) >= 1 && number(inodes?.value) <= 100)
  // critest fails without it.
  assert.ok((values.get(`container_fs_inodes_free{${device}}`) ?? 0) > 100)
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

const withNetwork = needing(test, 'file:/usr/lib/cni/ptp', 'file:/usr/lib/cni/host-local')

withNetwork('a pod tells what its network has carried, and nothing is missing', async () => {
  const pod = await runPod(daemon, inPodNetwork)
  const id = await runContainer(
    daemon,
    pod,
    ['probe', 'listen', '0.0.0.0', '7000', 'x'.repeat(1000)],
    inPodNetwork,
  )
  const { logPath } = await statusOf(daemon, id)
  await eventually('it listens', () => logLines(logPath).includes('listening'))
  const { status } = await daemon.call('PodSandboxStatus', { podSandboxId: pod.id })
  const traffic = async () => {
    const { stats } = await daemon.call('PodSandboxStats', { podSandboxId: pod.id })
    const eth = stats?.linux?.network?.defaultInterface
    assert.is(eth?.name, 'eth0')
    // The kubelet's conformance test of its summary fails without any.
    assert.equal(
      stats?.linux?.network?.interfaces.map(({ name }) => name),
      ['lo'],
    )
    return { received: number(eth?.rxBytes), sent: number(eth?.txBytes) }
  }
  const before = await traffic()
  await receive(status?.network?.ip ?? '', 7000, 1000)
  const after = await traffic()
  assert.ok(after.received > before.received)
  assert.ok(after.sent - before.sent > 1000)
  const found = await metricsOf(pod.id)
  const values = byName(found?.metrics ?? [])
  assert.ok((values.get('container_network_transmit_bytes_total{eth0}') ?? 0) >= after.sent)
  assert.ok((values.get('container_network_receive_packets_total{eth0}') ?? 0) > 0)
  assert.is(values.get('container_network_receive_errors_total{eth0}'), 0)
  assert.equal(
    [...values.keys()].filter((key) => key.includes('{lo}')),
    [],
  )
  const own = found?.metrics.find(({ name }) => name.startsWith('container_network'))
  assert.equal(own?.labelValues.slice(1), [
    pod.id,
    '',
    '',
    pod.config.metadata?.name,
    'test',
    'eth0',
  ])
  // No limit was asked for, and the container has not touched a disk. What else is missing is what this machine's cgroups cannot tell.
  const missing = ['container_spec_cpu_quota']
  missing.push('container_fs_reads', 'container_fs_writes', 'container_blkio')
  if (lacks('cgroup:hugetlb')) missing.push('container_hugetlb')
  if (!existsSync('/proc/pressure/cpu')) missing.push('container_pressure')
  const there = new Set(
    [...(found?.metrics ?? []), ...(found?.containerMetrics[0]?.metrics ?? [])].map((m) => m.name),
  )
  const { descriptors } = await daemon.call('ListMetricDescriptors')
  assert.equal(
    descriptors
      .map(({ name }) => name)
      .filter((name) => !there.has(name) && !missing.some((each) => name.startsWith(each))),
    [],
  )
  await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
})

/** Takes so many bytes from a server, which waits for its client to end. */
function receive(host: string, port: number, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: 5000 })
    let received = 0
    socket.on('data', (data) => {
      received += data.length
      if (received >= bytes) socket.end()
    })
    socket.on('error', reject)
    socket.on('timeout', () => socket.destroy(new Error(`${received} bytes in time`)))
    socket.on('close', () => resolve())
  })
}

test('metrics asked for while pods come and go: whole answers, and no error', async () => {
  let done = false
  const asking = (async () => {
    let answers = 0
    for (; !done; answers++) await daemon.call('ListPodSandboxMetrics')
    return answers
  })()
  for (let i = 0; i < 3; i++) {
    const pod = await runPod(daemon)
    await runContainer(daemon, pod, ['probe', 'sleep', '1000'])
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id })
  }
  done = true
  assert.ok((await asking) > 0)
})

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
