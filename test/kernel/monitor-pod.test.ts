/** What a monitor holds for a pod beyond namespaces: PID 1 of a shared pid namespace, and shared memory. */

import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
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
import { encodeFrame } from '../../src/wire/frame.ts'
import { Message } from '../../src/wire/message.ts'
import { encodeNamespaces } from '../../src/wire/plan.ts'
import { TAG } from '../../src/wire/tags.ts'
import { eventually } from '../lib/eventually.ts'
import { faultyMonitor } from '../lib/faults.ts'
import { bind, fresh, ID_MAPPINGS } from '../lib/inside.ts'
import { collect, MonitorBench, type PlanChange } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'cgroup2', 'userns', 'program:busybox', 'program:g++')

const bench = new MonitorBench()
const clean = traces({ roots: [bench.directory] })
const CALLS_MAX = 300
const BYTES = 1024 * 1024
/** In all sets that a program may use. */
const PTRACE = 1n << 19n
const KILL = 1n << 5n

type Bench = Monitor & { directory: string }

let pods = 0
function pod(change: Partial<NamespacesPlan> = {}): NamespacesPlan & { cgroup: string } {
  const cgroup = bench.cgroupOf(`pod${pods++}`)
  mkdirSync(cgroup, { recursive: true })
  return {
    namespaces: [{ type: 'ipc' }, { type: 'pid' }],
    sysctls: [],
    loopback: false,
    sharedMemoryBytes: BYTES,
    cgroup,
    ...change,
  }
}
const users = (): NamespacesPlan & { cgroup: string } =>
  pod({
    namespaces: [{ type: 'user' }, { type: 'ipc' }, { type: 'pid' }],
    idMappings: ID_MAPPINGS,
  })

const KINDS = [
  ['of the host’s users', pod],
  ['of users of their own', users],
] as const

/** What a container of this pod has in its plan. */
function guest({ sharedMemory, ...held }: HeldNamespaces, change: PlanChange = {}): PlanChange {
  const joined = Object.entries(held).map(([type, path]) => ({ type, path }) as NamespacePlan)
  const shm = bind('/dev/shm', '/dev/shm', { sourceNamespace: sharedMemory ?? '' })
  return {
    namespaces: [{ type: 'mount' }, ...joined],
    mounts: [
      fresh('proc', '/proc'),
      fresh('tmpfs', '/dev'),
      ...(sharedMemory === undefined ? [] : [shm]),
    ],
    devices: [],
    links: [],
    ...change,
  }
}

function capable(bits: bigint): NonNullable<PlanChange['process']> {
  const capabilities = {
    bounding: bits,
    effective: bits,
    permitted: bits,
    inheritable: 0n,
    ambient: 0n,
  }
  return { capabilities }
}

/** A container that lives until it is killed. */
async function start(
  monitor: Monitor,
  id: string,
  script: string,
  plan: PlanChange,
): Promise<void> {
  await monitor.create(bench.plan(id, script, plan))
  await monitor.start(id)
}

/** A script's output in a container of its own. */
async function look(monitor: Bench, id: string, script: string, plan: PlanChange): Promise<string> {
  await monitor.create(bench.plan(id, script, plan))
  using own = await connectMonitor(monitor.directory)
  const session = await own.attach(id, {})
  await own.start(id)
  const text = await collect(session)
  await session.exit
  return text.trim()
}

const stateOf = (pid: number): string | undefined => {
  try {
    return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  } catch {
    return undefined
  }
}
const isGone = (pid: number): boolean => stateOf(pid) === undefined

for (const [what, make] of KINDS) {
  test(`a pid namespace ${what}: its first process is ours, has nothing, and shows nothing`, async () => {
    const monitor = await bench.monitor()
    const plan = make()
    const held = await monitor.holdNamespaces(plan)
    const pid = (await monitor.status()).pause?.pid ?? 0
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const field = (name: string): string =>
      new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim() ?? ''
    const user = plan.idMappings ? String(ID_MAPPINGS.uids[0]?.outside) : '65535'
    assert.equal(field('Uid').split('\t'), [user, user, user, user])
    assert.equal(field('Gid').split('\t'), [user, user, user, user])
    assert.is(field('Groups'), '')
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      assert.match(field(set), /^0+$/, set)
    assert.is(field('NoNewPrivs'), '1')
    assert.is(field('Threads'), '1')
    assert.is(field('NSpid').split('\t').at(-1), '1')
    assert.is(readFileSync(`/proc/${pid}/environ`, 'utf8'), '')
    assert.equal(readdirSync(`/proc/${pid}/fd`), [])
    assert.equal(readdirSync(`/proc/${pid}/root`), ['dev'])
    assert.equal(readdirSync(`/proc/${pid}/root/dev`), ['shm'])
    assert.throws(() => writeFileSync(`/proc/${pid}/root/x`, ''), /EROFS/)
    assert.throws(() => writeFileSync(`/proc/${pid}/exe`, ''), /EROFS|ETXTBSY/)
    assert.is(readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n').length - 1, 2)
    assert.is(readlinkSync(`/proc/${pid}/cwd`), '/')
    assert.is(readFileSync(join(plan.cgroup, 'cgroup.procs'), 'utf8'), `${pid}\n`)
    assert.is(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync(held.pid as string))
    assert.is.not(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync('/proc/self/ns/pid'))
    await monitor.quit()
    await monitorEnd(monitor.directory)
    assert.ok(isGone(pid))
    assert.not.ok(existsSync(plan.cgroup), 'its cgroup went with it')
  })

  test(`containers of a pod ${what} see each other, and PID 1 reaps what they leave`, async () => {
    const monitor = await bench.monitor()
    const held = await monitor.holdNamespaces(make())
    const first = `${what.length}-sleeper`
    await start(monitor, first, 'sleep 4321', guest(held))
    const seen = await look(
      monitor,
      `${what.length}-looker`,
      'busybox ps -o pid,comm,args',
      guest(held),
    )
    assert.match(seen, /^\s*1 berth-pause/m)
    assert.match(seen, /sleep 4321/)
    // The orphan outlives its parent: who reaps it is PID 1, or it stays as a zombie.
    const script = '(setsid sleep 0.2 &) ; sleep 0.6; busybox ps -o stat,comm'
    const left = await look(monitor, `${what.length}-leaver`, script, guest(held))
    assert.match(left, /sleep/)
    assert.not.match(left, /^Z/m)
  })

  test(`what a container of a pod ${what} sees of PID 1, as the same user and with CAP_SYS_PTRACE`, async () => {
    const monitor = await bench.monitor()
    const plan = make()
    const held = await monitor.holdNamespaces(plan)
    const user = plan.idMappings ? { uid: 0, gid: 0 } : { uid: 65535, gid: 65535 }
    const script =
      'for f in environ exe cwd root maps mem; do (busybox ls -l /proc/1/$f 2>&1; cat /proc/1/$f 2>&1) | busybox grep -q denied && echo $f denied; done; busybox ls /proc/1/fd 2>&-'
    const denied = await look(
      monitor,
      `${what.length}-same`,
      script,
      guest(held, { process: user }),
    )
    for (const name of ['environ', 'exe', 'cwd', 'root', 'maps', 'mem'])
      assert.match(denied, new RegExp(`^${name} denied$`, 'm'))
    assert.match(denied, /mem denied$/)
    const able = guest(held, { process: { uid: 0, gid: 0, ...capable(PTRACE) } })
    // Over the host's users it may look, and finds an empty directory that cannot be written to.
    const shown = await look(
      monitor,
      `${what.length}-able`,
      'exec 2>&1; busybox ls -R /proc/1/root/; echo x >/proc/1/root/x; echo x >/proc/1/exe; busybox ls /proc/1/fd | busybox wc -l',
      able,
    )
    assert.match(
      shown,
      /^\/proc\/1\/root\/:\ndev\n\n\/proc\/1\/root\/dev:\nshm\n\n\/proc\/1\/root\/dev\/shm:\n/,
    )
    assert.match(shown, /proc\/1\/root\/x: Read-only file system/)
    assert.match(shown, /proc\/1\/exe: (Read-only file system|Text file busy|Permission denied)/)
    assert.match(shown, /\n0$/)
  })

  test(`/dev/shm of a pod ${what} is shared, outlives its containers, and has its size`, async () => {
    const monitor = await bench.monitor()
    const plan = make()
    const held = await monitor.holdNamespaces(plan)
    const id = (name: string): string => `${what.length}-${name}`
    const mode = 'busybox stat -c "%a %u %g" /dev/shm'
    assert.is(
      await look(monitor, id('w'), `echo x >/dev/shm/file; ${mode}`, guest(held)),
      '1777 0 0',
    )
    assert.is(await look(monitor, id('r'), 'cat /dev/shm/file', guest(held)), 'x')
    // Other users too, as POSIX shared memory is used.
    const other = guest(held, { process: { uid: 7, gid: 7 } })
    assert.is(await look(monitor, id('o'), 'echo y >/dev/shm/other; cat /dev/shm/*', other), 'x\ny')
    const full = `busybox dd if=/bin/busybox of=/dev/shm/big bs=4096 count=300 2>&1; busybox stat -c %s /dev/shm/big`
    const text = await look(monitor, id('f'), full, guest(held))
    assert.match(text, /No space left/)
    assert.ok(Number(text.split('\n').at(-1)) < BYTES)
    assert.match(
      await look(monitor, id('m'), 'busybox grep " /dev/shm " /proc/self/mountinfo', guest(held)),
      /nosuid,nodev,noexec/,
    )
  })
}

test('shared memory alone needs no process', async () => {
  const monitor = await bench.monitor()
  const { cgroup, ...plan } = pod({ namespaces: [{ type: 'ipc' }] })
  const held = await monitor.holdNamespaces(plan)
  assert.is((await monitor.status()).pause, undefined)
  assert.is(await look(monitor, 'alone-w', 'echo z >/dev/shm/z', guest(held)), '')
  assert.is(await look(monitor, 'alone-r', 'cat /dev/shm/z', guest(held)), 'z')
})

test('the first process ends with a monitor that is killed, and its containers with it', async () => {
  const monitor = await bench.monitor()
  const held = await monitor.holdNamespaces(users())
  const { monitor: own, pause } = await monitor.status()
  await start(monitor, 'bereft', 'sleep 1000', guest(held))
  const container = (await monitor.status()).containers['bereft']?.pid ?? 0
  process.kill(own, 'SIGKILL')
  await eventually('both are gone', () => isGone(pause?.pid ?? 0) && isGone(container))
  await monitorEnd(monitor.directory)
})

for (const [how, kill] of [
  ['killed', (pid: number) => process.kill(pid, 'SIGKILL')],
  ['asked to end', (pid: number) => process.kill(pid, 'SIGTERM')],
] as const) {
  test(`a first process that is ${how} takes all with it, and the monitor says so`, async () => {
    const monitor = await bench.monitor()
    const held = await monitor.holdNamespaces(pod())
    const pid = (await monitor.status()).pause?.pid ?? 0
    const ids = [`${how.length}-a`, `${how.length}-b`]
    for (const id of ids) await start(monitor, id, 'sleep 1000', guest(held))
    const exits = ids.map((id) => monitor.wait(id))
    kill(pid)
    for (const exit of exits) assert.is((await exit).code, 137)
    await eventually('it is told', async () => (await monitor.status()).pause?.pid === 0)
    const status = await monitor.status()
    assert.equal(
      status.pause,
      how === 'killed' ? { pid: 0, code: 137, signal: 9 } : { pid: 0, code: 0, signal: 0 },
    )
    assert.is(status.namespaces.pid, undefined)
    assert.ok(status.namespaces.ipc)
    const file = JSON.parse(readFileSync(join(monitor.directory, 'status.json'), 'utf8'))
    assert.equal(file.pause, status.pause)
    await assertRejects(
      monitor.create(bench.plan(`${how.length}-late`, 'true', guest(held))),
      /namespace/,
    )
    await monitor.quit()
    await monitorEnd(monitor.directory)
  })
}

test('a container cannot kill PID 1 by SIGKILL, nor another user’s without CAP_KILL', async () => {
  const monitor = await bench.monitor()
  const held = await monitor.holdNamespaces(pod())
  const able = guest(held, { process: capable(KILL) })
  assert.is(await look(monitor, 'by9', 'kill -9 1; echo $?', able), '0')
  assert.match(await look(monitor, 'by15', 'kill -15 1 2>&1', guest(held)), /not permitted/)
  assert.ok(((await monitor.status()).pause?.pid ?? 0) > 0)
  await monitor.create(bench.plan('ender', 'kill -15 1; sleep 1000', able))
  await monitor.start('ender')
  assert.is((await monitor.wait('ender')).code, 137)
})

test('an exec goes into the shared namespace, and quit waits for the last container', async () => {
  const monitor = await bench.monitor()
  const held = await monitor.holdNamespaces(users())
  await start(monitor, 'execed', 'sleep 1000', guest(held))
  using own = await connectMonitor(monitor.directory)
  const { session } = await own.exec(bench.exec('execed', 'cat /proc/1/comm'))
  assert.is((await collect(session)).trim(), 'berth-pause')
  await assertRejects(monitor.quit(), /alive/)
  assert.ok(((await monitor.status()).pause?.pid ?? 0) > 0)
  await monitor.signal('execed', { signal: 9 })
  own.close()
  await monitorEnd(monitor.directory)
})

for (const [what, plan, error] of [
  [
    'a pid namespace to join',
    () => pod({ namespaces: [{ type: 'pid', path: '/proc/self/ns/pid' }] }),
    /is a new one/,
  ],
  ['a cgroup without a process', () => pod({ namespaces: [{ type: 'ipc' }] }), /cgroup without/],
  ['a cgroup that is not there', () => pod({ cgroup: '/no/such/cgroup' }), /\/no\/such\/cgroup/],
  ['shared memory of no size', () => pod({ sharedMemoryBytes: 0 }), /no size/],
  ['shared memory of a size below 0', () => pod({ sharedMemoryBytes: -1 }), /no size/],
] as const) {
  test(`${what} is refused, and nothing is held`, async () => {
    const monitor = await bench.monitor()
    await assertRejects(monitor.holdNamespaces(plan()), error)
    const { namespaces, pause } = await monitor.status()
    assert.equal({ namespaces, pause }, { namespaces: {}, pause: undefined })
  })
}

test('a first program that not every user may execute is refused by name', async () => {
  const monitor = await bench.monitor()
  const path = join(bench.directory, 'private-pause')
  writeFileSync(path, 'x', { mode: 0o750 })
  const message = new Message()
    .group(TAG.requestNamespaces, (g) =>
      encodeNamespaces(g, { namespaces: [{ type: 'pid' }], sysctls: [], loopback: false }),
    )
    .text(TAG.requestPauseProgram, path)
  const socket = connect(join(monitor.directory, 'ctl'))
  socket.write(encodeFrame('namespaces', message.encode()))
  const [reply] = (await once(socket, 'data')) as [Buffer]
  socket.destroy()
  assert.match(reply.toString(), /private-pause is no program that every user may execute/)
  assert.equal((await monitor.status()).namespaces, {})
})

test('the memory of a first process', async () => {
  const monitor = await bench.monitor()
  await monitor.holdNamespaces(pod())
  const pid = (await monitor.status()).pause?.pid ?? 0
  const [, pss = ''] =
    /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')) ?? []
  console.log(`# PID 1: ${pss} KiB (PSS)`)
  assert.ok(Number(pss) <= 32)
})

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
    const plan = users()
    const monitor = await startMonitor({ directory, program })
    let told: unknown
    try {
      await monitor.holdNamespaces(plan)
    } catch (error) {
      told = error
      failures++
      assert.match((error as Error).message, /Input\/output error/, `call ${n}`)
      const { namespaces, pause } = await monitor.status()
      assert.equal({ namespaces, pause }, { namespaces: {}, pause: undefined }, `call ${n}`)
      // The helper that has held a user namespace may take a moment to go.
      await eventually(
        `call ${n} leaves nothing`,
        () => readFileSync(join(plan.cgroup, 'cgroup.procs'), 'utf8') === '',
      )
      writeFileSync(nth, '0')
      assert.is(Object.keys(await monitor.holdNamespaces(plan)).length, 4, `call ${n}`)
    }
    await monitor.quit()
    monitor.close()
    await monitorEnd(directory)
    assert.not(isMonitorAlive(directory))
    if (told === undefined) break
  }
  console.log(`# ${failures} calls failed, each told`)
  assert.ok(failures > 40)
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
