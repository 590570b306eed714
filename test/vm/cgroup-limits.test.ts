import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault } from '../../src/base/fault.ts'
import {
  cgroupHost,
  createGroup,
  groupStats,
  killGroup,
  readMemoryEvents,
  removeGroup,
  updateGroup,
} from '../../src/cgroup/index.ts'
import type { Resources } from '../../src/spec/runtime.ts'
import { eventually } from '../lib/eventually.ts'
import { inGroup } from '../lib/in-group.ts'
import { needing, needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'cgroup:cpu', 'cgroup:memory', 'cgroup:pids')

const host = cgroupHost()
const PARENT = `/berth-test-${process.pid}`
const MIB = 2 ** 20

test.after(() => removeGroup(join(host.root, PARENT)))

let count = 0
async function withGroup(
  resources: Resources,
  body: (directory: string) => Promise<void>,
  preferred: Record<string, string> = {},
): Promise<void> {
  const { directory, warnings } = await createGroup(host, {
    parent: PARENT,
    name: `g${count++}`,
    resources,
    preferred,
  })
  assert.equal(warnings, [])
  try {
    await body(directory)
  } finally {
    killGroup(directory)
    await removeGroup(directory)
  }
}

async function rejects(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof Fault && error.code === code, String(error))
  assert.match(error.message, message)
}

const text = (directory: string, file: string): string =>
  readFileSync(join(directory, file), 'utf8').trim()

test('more memory than the limit is a kill that memory.events tells', () =>
  withGroup({ memory: { limit: 32 * MIB, swap: 32 * MIB } }, async (directory) => {
    assert.is(text(directory, 'memory.max'), String(32 * MIB))
    const hog = await inGroup(directory, 'exec tail /dev/zero')
    assert.is((await once(hog, 'exit'))[1], 'SIGKILL')
    assert.is(readMemoryEvents(directory)?.oomKill, 1)
    assert.ok((groupStats(directory).memory?.peakBytes ?? 0n) <= 32n * BigInt(MIB))
  }))

test('with memory.oom.group every process of the group dies of it', () =>
  withGroup(
    { memory: { limit: 32 * MIB, swap: 32 * MIB } },
    async (directory) => {
      const bystander = await inGroup(directory, 'exec sleep 1000')
      const exit = once(bystander, 'exit')
      await inGroup(directory, 'exec tail /dev/zero')
      assert.is((await exit)[1], 'SIGKILL')
    },
    { 'memory.oom.group': '1' },
  ))

test('a fork beyond the limit of processes fails', () =>
  withGroup({ pids: { limit: 4 } }, async (directory) => {
    const shell = await inGroup(
      directory,
      'for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done 2>/dev/null; wait',
    )
    await once(shell.stderr.resume(), 'end').catch(() => undefined)
    assert.ok(Number(/max (\d+)/.exec(text(directory, 'pids.events'))?.[1]) > 0)
    assert.ok((groupStats(directory).pids?.current ?? 99n) <= 4n)
    assert.is(groupStats(directory).pids?.max, 4n)
  }))

test('a busy loop gets its quota of each period and no more', () =>
  withGroup({ cpu: { quota: 20_000, period: 100_000 } }, async (directory) => {
    await inGroup(directory, 'while :; do :; done')
    const before = groupStats(directory).cpu
    await eventually('20 periods', () => {
      const now = groupStats(directory).cpu
      return (now?.periods ?? 0n) - (before?.periods ?? 0n) >= 20n
    })
    const after = groupStats(directory).cpu
    assert.ok(before && after)
    const periods = (after.periods ?? 0n) - (before.periods ?? 0n)
    const used = after.usageUs - before.usageUs
    // One period may be under way at each end; the kernel counts in slices of 5 ms.
    assert.ok(used <= (periods + 2n) * 25_000n, `${used} µs in ${periods} periods`)
    assert.ok(used >= (periods * 20_000n) / 2n, `${used} µs in ${periods} periods`)
    assert.ok((after.throttledPeriods ?? 0n) > 0n)
  }))

test('shares, reservations and swap arrive as the kubelet expects them', () =>
  withGroup(
    { cpu: { shares: 512 }, memory: { limit: 64 * MIB, reservation: 16 * MIB, swap: -1 } },
    async (directory) => {
      assert.is(text(directory, 'cpu.weight'), '59')
      assert.is(text(directory, 'memory.low'), String(16 * MIB))
      assert.is(text(directory, 'cpu.max'), 'max 100000')
    },
  ))

test('an update takes effect, and one that fails in the middle changes nothing', () =>
  withGroup({ memory: { limit: 64 * MIB }, pids: { limit: 10 } }, async (directory) => {
    await updateGroup(directory, { memory: { limit: 128 * MIB }, cpu: { quota: 30_000 } })
    assert.is(text(directory, 'memory.max'), String(128 * MIB))
    assert.is(text(directory, 'cpu.max'), '30000 100000')
    assert.is(text(directory, 'pids.max'), '10')
    await rejects(
      updateGroup(directory, {
        cpu: { quota: 50_000, shares: 2048 },
        memory: { limit: 32 * MIB },
        pids: { limit: 99 },
        unified: { 'memory.high': 'nonsense' },
      }),
      'INVALID_ARGUMENT',
      /memory\.high/,
    )
    assert.is(text(directory, 'cpu.max'), '30000 100000')
    assert.is(text(directory, 'cpu.weight'), '100')
    assert.is(text(directory, 'memory.max'), String(128 * MIB))
    assert.is(text(directory, 'pids.max'), '10')
  }))

test('a quota below an old burst is taken when the burst is given, too', () =>
  withGroup({ cpu: { quota: 50_000, burst: 40_000 } }, async (directory) => {
    await updateGroup(directory, { cpu: { quota: 10_000, burst: 5_000 } })
    assert.is(text(directory, 'cpu.max'), '10000 100000')
    assert.is(text(directory, 'cpu.max.burst'), '5000')
  }))

test('a limit below the present use is refused when that is asked for', () =>
  withGroup({}, async (directory) => {
    // The file's pages are charged to the group; only then does the shell say the second line.
    const user = await inGroup(
      directory,
      'x=$(head -c 8000000 /dev/zero | tr "\\0" a); echo full; sleep 1000',
    )
    await once(user.stdout, 'data')
    await rejects(
      updateGroup(directory, { memory: { limit: MIB, checkBeforeUpdate: true } }),
      'FAILED_PRECONDITION',
      /in use/,
    )
    assert.is(text(directory, 'memory.max'), 'max')
    assert.is(user.exitCode, null)
  }))

test('a parent with processes of its own cannot limit its children, and says so', async () => {
  const parent = join(host.root, PARENT, 'inhabited')
  mkdirSync(parent, { recursive: true })
  const tenant = await inGroup(parent, 'exec sleep 1000')
  try {
    await rejects(
      createGroup(host, {
        parent: `${PARENT}/inhabited`,
        name: 'child',
        resources: { memory: { limit: MIB } },
      }),
      'FAILED_PRECONDITION',
      /"memory".*processes live in/,
    )
    // And without a limit the child is an ordinary group.
    const child = await createGroup(host, {
      parent: `${PARENT}/inhabited`,
      name: 'child',
      resources: {},
    })
    assert.is(text(child.directory, 'cgroup.type'), 'domain')
    await removeGroup(child.directory)
  } finally {
    tenant.kill('SIGKILL')
    await removeGroup(parent)
  }
})

const io = needing(test, 'cgroup:io')

io(
  'a throttle that cannot be had is refused by name, also where the kernel cannot throttle at all',
  async () => {
    const request = createGroup(host, {
      parent: PARENT,
      name: 'throttled',
      resources: { blockIO: { throttleReadBpsDevice: [{ major: 4095, minor: 7, rate: MIB }] } },
    })
    const error = await request.catch((reason: unknown) => reason)
    assert.ok(error instanceof Fault, String(error))
    assert.match(error.message, /throttleReadBpsDevice.*(no io\.max|kernel refuses)/)
  },
)

const cpuset = needing(test, 'cgroup:cpuset')

cpuset('a cpuset binds the group', () =>
  withGroup({ cpu: { cpus: '0', mems: '0' } }, async (directory) => {
    assert.is(text(directory, 'cpuset.cpus.effective'), '0')
    writeFileSync(join(directory, 'cpuset.cpus'), '\n')
  }),
)

test.run()
