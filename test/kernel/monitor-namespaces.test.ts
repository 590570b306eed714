/** Namespaces that a monitor holds without a process in them: what the containers of a pod share. */
import { mkdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  connectMonitor,
  type HeldNamespaces,
  isMonitorAlive,
  type Monitor,
  monitorEnd,
  startMonitor,
} from '../../src/container/monitor.ts'
import type { NamespacePlan, NamespacesPlan } from '../../src/spec/plan.ts'
import { faultyMonitor } from '../lib/faults.ts'
import { ID_MAPPINGS } from '../lib/inside.ts'
import { collect, MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'cgroup2', 'userns', 'program:busybox', 'program:g++')

const bench = new MonitorBench()
const clean = traces({ roots: [bench.directory] })
const FILES = { user: 'user', network: 'net', ipc: 'ipc', uts: 'uts' } as const
const CALLS_MAX = 200

const pod = (change: Partial<NamespacesPlan> = {}): NamespacesPlan => ({
  namespaces: [{ type: 'network' }, { type: 'ipc' }, { type: 'uts' }],
  hostname: 'pod',
  sysctls: [['net/ipv4/ip_unprivileged_port_start', '7']],
  loopback: true,
  ...change,
})
const withUsers = pod({
  namespaces: [{ type: 'user' }, ...pod().namespaces],
  idMappings: ID_MAPPINGS,
})

/** As the namespace files of processes name it. */
const nameOf = (path: string): string => `${readlinkSync(path)}:${statSync(path).ino}`

/** Runs a script in a new container that joins what is held. */
async function inside(
  monitor: Monitor,
  id: string,
  held: HeldNamespaces,
  script: string,
): Promise<string> {
  const joined = Object.entries(held).map(([type, path]) => ({ type, path }) as NamespacePlan)
  await monitor.create(
    bench.plan(id, script, { namespaces: [{ type: 'mount' }, { type: 'pid' }, ...joined] }),
  )
  using own = await connectMonitor((monitor as Monitor & { directory: string }).directory)
  const session = await own.attach(id, {})
  await own.start(id)
  const text = await collect(session)
  await session.exit
  return text.trim()
}

for (const [what, plan] of [
  ['of the host’s users', pod()],
  ['of users of their own', withUsers],
] as const) {
  test(`namespaces ${what} are shared by containers, and say what they were told`, async () => {
    const monitor = await bench.monitor()
    const held = await monitor.holdNamespaces(plan)
    assert.equal(Object.keys(held).sort(), plan.namespaces.map(({ type }) => type).sort())
    const types = Object.keys(held) as (keyof typeof FILES)[]
    for (const type of types) {
      assert.is.not(nameOf(held[type] as string), nameOf(`/proc/self/ns/${FILES[type]}`), type)
    }
    const name = what.length
    const links = types.map((type) => `/proc/self/ns/${FILES[type]}`).join(' ')
    // busybox in the root has no readlink of its own name here: the shell's own `ls` is not there either.
    const look = `cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start; for n in ${links}; do busybox readlink $n; done; busybox ip link show lo`
    const first = await inside(monitor, `a${name}`, held, look)
    assert.match(first, /^pod\n7\n/)
    assert.match(first, /lo: <LOOPBACK,UP/)
    for (const type of types) assert.ok(first.includes(readlinkSync(held[type] as string)), type)
    assert.is(await inside(monitor, `b${name}`, held, look), first)
  })
}

test('the user namespace owns the others: its root may change them, and does not own the host', async () => {
  const monitor = await bench.monitor()
  const held = await monitor.holdNamespaces(withUsers)
  const script =
    'echo 9 >/proc/sys/net/ipv4/ip_unprivileged_port_start && cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/uid_map; busybox ip link set lo down && echo down'
  const capabilities = 1n << 12n
  const joined = Object.entries(held).map(([type, path]) => ({ type, path }) as NamespacePlan)
  await monitor.create(
    bench.plan('owner', script, {
      namespaces: [{ type: 'mount' }, { type: 'pid' }, ...joined],
      process: {
        capabilities: {
          bounding: capabilities,
          effective: capabilities,
          permitted: capabilities,
          inheritable: 0n,
          ambient: 0n,
        },
      },
    }),
  )
  const session = await monitor.attach('owner', {})
  await monitor.start('owner')
  const text = await collect(session)
  const { outside, size } = ID_MAPPINGS.uids[0] as { outside: number; size: number }
  assert.match(text, new RegExp(`^9\\s+0\\s+${outside}\\s+${size}\\s+down`))
})

test('asked again, also by another client, it gives the same', async () => {
  const monitor = await bench.monitor()
  const held = await monitor.holdNamespaces(pod())
  const names = Object.values(held).map(nameOf)
  monitor.close()
  using other = await connectMonitor(monitor.directory)
  assert.equal(await other.holdNamespaces(withUsers), held)
  assert.equal((await other.status()).namespaces, held)
  assert.equal(Object.values(held).map(nameOf), names)
  await other.quit()
  await monitorEnd(monitor.directory)
  assert.throws(() => statSync(held.network as string))
})

const EARLY: NamespacesPlan = {
  namespaces: [{ type: 'ipc' }],
  sysctls: [],
  loopback: false,
  sharedMemoryBytes: 1 << 20,
}

test('what is missing is made beside what is held already', async () => {
  const monitor = await bench.monitor()
  const early = await monitor.holdNamespaces(EARLY)
  assert.equal(Object.keys(early).sort(), ['ipc', 'sharedMemory'])
  const names = Object.values(early).map(nameOf)
  const plan = pod({ sharedMemoryBytes: 1 << 20 })
  const held = await monitor.holdNamespaces(plan, { more: true })
  assert.equal(Object.keys(held).sort(), ['ipc', 'network', 'sharedMemory', 'uts'])
  assert.equal([held.ipc, held.sharedMemory].map(String).map(nameOf), names)
  assert.equal(await monitor.holdNamespaces(plan, { more: true }), held)
  const { sharedMemory, ...joined } = held
  const look = 'cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start'
  assert.is(await inside(monitor, 'more', joined, look), 'pod\n7')
})

test('what would have to be there first is refused beside it, and what is held stays', async () => {
  for (const [first, then] of [
    [EARLY, withUsers],
    [EARLY, pod({ namespaces: [{ type: 'ipc' }, { type: 'pid' }] })],
    [withUsers, pod({ sharedMemoryBytes: 1 << 20 })],
  ] as const) {
    const monitor = await bench.monitor()
    const held = await monitor.holdNamespaces(first)
    await assertRejects(monitor.holdNamespaces(then, { more: true }), /from the first on/)
    assert.equal((await monitor.status()).namespaces, held)
  }
})

test('what is held aside ends with the last connection, unless somebody has asked for it', async () => {
  const unused = await bench.monitor()
  await unused.holdNamespaces(EARLY, { aside: true })
  unused.close()
  await monitorEnd(unused.directory)
  const used = await bench.monitor()
  const held = await used.holdNamespaces(EARLY, { aside: true })
  assert.equal(await used.holdNamespaces(EARLY, { more: true }), held)
  used.close()
  using other = await connectMonitor(used.directory)
  assert.equal((await other.status()).namespaces, held)
  await other.quit()
  await monitorEnd(used.directory)
})

for (const [what, plan, error] of [
  [
    'a mount namespace',
    pod({ namespaces: [{ type: 'mount' }] }),
    /only user, network, ipc, uts and pid/,
  ],
  ['a name that is too long', pod({ hostname: 'x'.repeat(65) }), /hostname/],
  ['a sysctl that is not there', pod({ sysctls: [['net/no/such', '1']] }), /net\/no\/such/],
  [
    'a path that is another namespace',
    pod({ namespaces: [{ type: 'network', path: '/proc/self/ns/uts' }] }),
    /is no network namespace/,
  ],
] as const) {
  test(`${what} is refused, and nothing is held`, async () => {
    const monitor = await bench.monitor()
    await assertRejects(monitor.holdNamespaces(plan), error)
    assert.equal((await monitor.status()).namespaces, {})
  })
}

test('the nth call on the way fails, for every n: it is told, nothing is held, and the next try succeeds', async () => {
  const build = join(bench.directory, 'faulty')
  mkdirSync(build)
  const { program, nth } = faultyMonitor(build)
  process.env['BERTH_FAULT_NTH'] ??= ''
  let failures = 0
  for (let n = 1; ; n++) {
    assert.ok(n < CALLS_MAX)
    const directory = join(bench.directory, `nth-${n}`)
    mkdirSync(directory, { mode: 0o700 })
    writeFileSync(nth, String(n))
    const monitor = await startMonitor({ directory, program })
    let told: unknown
    try {
      await monitor.holdNamespaces(withUsers)
    } catch (error) {
      told = error
      failures++
      assert.match((error as Error).message, /Input\/output error/, `call ${n}`)
      assert.equal((await monitor.status()).namespaces, {}, `call ${n}`)
      writeFileSync(nth, '0')
      assert.is(Object.keys(await monitor.holdNamespaces(withUsers)).length, 4, `call ${n}`)
    }
    await monitor.quit()
    monitor.close()
    await monitorEnd(directory)
    assert.not(isMonitorAlive(directory))
    if (told === undefined) break
  }
  console.log(`# ${failures} calls failed, each told`)
  assert.ok(failures > 10)
})

async function assertRejects(promise: Promise<unknown>, expected: RegExp): Promise<void> {
  try {
    await promise
  } catch (error) {
    assert.match((error as Error).message, expected)
    return
  }
  assert.unreachable(`did not fail with ${expected}`)
}

test('nothing is left behind', async () => {
  await bench.end()
  await clean()
})

test.run()
