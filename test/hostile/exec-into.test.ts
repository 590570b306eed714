/** exec into a container whose first process has turned its world upside down, and a PID namespace shared with one that kills. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Monitor } from '../../src/container/monitor.ts'
import type { ProcessPlan } from '../../src/spec/plan.ts'
import { collect, MonitorBench, type PlanChange } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'userns', 'program:busybox')

const ALL = 0x1ffffffffffn
const bench = new MonitorBench()
const capabilities = {
  bounding: ALL,
  effective: ALL,
  permitted: ALL,
  inheritable: 0n,
  ambient: 0n,
}
const PRIVILEGED: PlanChange = { process: { capabilities, noNewPrivileges: false } }
let containers = 0

mkdirSync(join(bench.root, 'jail/bin'), { recursive: true })
mkdirSync(join(bench.root, 'jail/old'))
mkdirSync(join(bench.root, 'jail/tmp'))
writeFileSync(join(bench.root, 'container'), '')
// What must never be seen from inside.
const SECRET = join(bench.directory, 'rootfs')

/** Runs the attack as first process and waits until it has said that all is in place. */
async function attacker(script: string): Promise<{ id: string; monitor: Monitor }> {
  const id = `attacker-${++containers}`
  const { monitor, session } = await bench.run(
    id,
    `/bin/busybox --install -s /bin; set -e\n${script}\necho ready; sleep 1000`,
    PRIVILEGED,
  )
  for await (const { data } of session.output) {
    assert.match(data.toString(), /^ready/, data.toString())
    break
  }
  return { id, monitor }
}

/** Output of an exec there, or why it failed. Hanging is the one thing that it may not do. */
async function exec(
  { id, monitor }: { id: string; monitor: Monitor },
  script: string,
  change: Partial<ProcessPlan> = {},
): Promise<string> {
  const { connectMonitor } = await import('../../src/container/monitor.ts')
  const { directory } = monitor as Monitor & { directory: string }
  using client = await connectMonitor(directory)
  try {
    const { session } = await client.exec(bench.exec(id, script, { timeoutMs: 10_000, ...change }))
    const text = await collect(session)
    assert.is((await session.exit).timedOut, false)
    return text.trim()
  } catch (error) {
    return String(error)
  }
}

const LOOK = `pwd; [ -e ${SECRET} ] && echo HOST; [ -e /proc/1 ] && [ -e /proc/1/root${SECRET} ] && echo HOST; ls /`
const attacks: { name: string; script: string; sees?: RegExp }[] = [
  { name: 'it has changed its root', script: 'cd /jail && exec 3</', sees: /^\/\n/ },
  {
    name: 'it has covered its root with an empty file system',
    script: 'mount -t tmpfs none /',
    sees: /^\/\n|cannot find|not found|no such/i,
  },
  {
    name: 'it has pivoted into another root, the old one below',
    script: `mount --bind /jail /jail; mkdir -p /jail/bin; cp /bin/busybox /jail/bin/; cd /jail
      for i in sh ls sleep echo; do [ -e bin/$i ] || ln -s busybox bin/$i; done
      pivot_root . old; cd /`,
    sees: /^\/\n(.|\n)*old/,
  },
  {
    name: 'it has removed its working directory',
    script: 'mkdir /gone; cd /gone; rmdir /gone',
    sees: /^\/\n/,
  },
  {
    name: 'it has put a faked /proc in place',
    script: `mount -t tmpfs none /proc; mkdir -p /proc/self/attr/apparmor /proc/self/fd /proc/1
      for f in attr/exec attr/apparmor/exec oom_score_adj loginuid uid_map; do echo fake > /proc/self/$f; done
      for i in 0 1 2 3 4 5 6 7 8 9; do ln -s / /proc/self/fd/$i; done`,
    sees: /^\/\n/,
  },
  {
    name: 'it has unmounted /proc and /dev',
    script: 'umount -l /proc; umount -l /dev',
    sees: /^\/\n/,
  },
]

for (const { name, script, sees } of attacks) {
  test(`${name}: an exec works inside or fails, and sees nothing of the host`, async () => {
    const place = await attacker(script)
    for (const cwd of ['/', '/proc/self/fd/5', '/proc/1/root', '/proc/self/cwd']) {
      const text = await exec(place, LOOK, { cwd })
      assert.not.match(text, /HOST/)
      if (cwd === '/' && sees) assert.match(text, sees)
    }
    const terminal = await exec(place, 'echo terminal', { terminal: true, rows: 9, columns: 9 })
    assert.match(terminal, /^terminal$|terminal: |not found|cannot/i)
    if (script.includes('fake')) {
      const file = '/proc/self/attr/exec /proc/self/oom_score_adj /proc/self/attr/apparmor/exec'
      assert.is(await exec(place, `cat ${file}`), 'fake\nfake\nfake')
    }
    await place.monitor.signal(place.id, { signal: 9 })
  })
}

const terminals: { name: string; script: string; works: boolean }[] = [
  {
    name: '/dev/ptmx is a link to a file',
    script: 'rm /dev/ptmx; ln -s /container /dev/ptmx',
    works: true,
  },
  {
    name: '/dev/pts is a tmpfs with a fifo in it',
    script: 'mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx',
    works: false,
  },
  {
    name: '/dev/pts/ptmx is covered by the null device',
    script: 'mount --bind /dev/null /dev/pts/ptmx',
    works: false,
  },
  {
    name: '/dev/pts is a link',
    script: 'umount /dev/pts; rmdir /dev/pts; ln -s /jail /dev/pts',
    works: false,
  },
  {
    name: '/dev/pts is another devpts of its own',
    script: 'mount -t devpts -o newinstance,ptmxmode=000 none /dev/pts',
    works: true,
  },
]
for (const { name, script, works } of terminals) {
  test(`${name}: a terminal ${works ? 'works' : 'is refused, at once'}`, async () => {
    const place = await attacker(script)
    const text = await exec(place, '[ -t 0 ] && echo yes', { terminal: true })
    assert.match(text, works ? /^yes$/ : /terminal: .*\/dev\/pts/)
    await place.monitor.signal(place.id, { signal: 9 })
  })
}

test('a first process that has gone into a user namespace of its own, without any id, takes nobody along', async () => {
  const place = await attacker('exec unshare -U sh -c "echo ready; sleep 1000"')
  const text = await exec(place, 'echo in; cat /proc/self/uid_map')
  assert.match(text, /user: |group|cannot/)
  await place.monitor.signal(place.id, { signal: 9 })
})

test('a container that joins the PID namespace of one that kills all it sees is made or fails, and nothing stays', async () => {
  // The first process itself: everybody else it kills.
  const killer = await attacker('echo ready; while :; do kill -9 -1 || :; done 2>/dev/null')
  const { pid } = (await killer.monitor.status()).containers[killer.id] ?? { pid: 0 }
  const types = ['mount', 'network', 'ipc', 'uts'] as const
  for (let i = 0; i < 20; i++) {
    const id = `victim-${i}`
    const monitor = await bench.monitor(id)
    const plan = bench.plan(id, 'exit 3', {
      namespaces: [
        ...types.map((type) => ({ type })),
        { type: 'pid', path: `/proc/${pid}/ns/pid` },
      ],
    })
    try {
      await monitor.create(plan)
      const exit = monitor.wait(id)
      exit.catch(() => {})
      await monitor.start(id)
      assert.ok([3, 137].includes((await exit).code))
    } catch (error) {
      assert.match(
        String(error),
        /killed|not running|no such container|closed the connection/,
        String(error),
      )
    }
    assert.equal(
      existsSync(bench.cgroupOf(id))
        ? readdirSync(bench.cgroupOf(id)).filter((n) => !/\./.test(n))
        : [],
      [],
    )
  }
  await killer.monitor.signal(killer.id, { signal: 9 })
})

test('everything is taken away', () => bench.end())

test.run()
