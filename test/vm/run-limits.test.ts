/** The limits of `berth run` and `berth update`, as a user meets them, on a machine with all controllers. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile, type Result } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { shareUnderQuota } from '../lib/quota.ts'

needs('root', 'overlay', 'cgroup2', 'cgroup:cpu', 'cgroup:io', 'cgroup:memory', 'cgroup:pids')

const { berth, nothingIsLeft } = berthOfFile()
const MIB = 2 ** 20

interface Inspected {
  readonly CgroupPath: string
  readonly State: {
    readonly Status: string
    readonly OOMKilled: boolean
    readonly ExitCode: number
    readonly Pid: number
  }
}

async function inspect(name: string): Promise<Inspected> {
  const [found] = JSON.parse(await berth.ok(['inspect', name])) as Inspected[]
  assert.ok(found)
  return found
}

/** Runs the probe in the foreground, and leaves the container there to be looked at. */
function run(name: string, options: readonly string[], ...verb: string[]): Promise<Result> {
  return berth.run([
    ...['run', '--name', name, '--net', 'none', ...options],
    ...['hello', '/bin/probe', ...verb],
  ])
}

/** In the background, with a limit that may be changed, for as long as `use` takes. */
async function running(
  options: readonly string[],
  verb: readonly string[],
  use: (name: string, cgroup: string) => Promise<void>,
): Promise<void> {
  const id = await berth.ok([
    ...['run', '-d', '--net', 'none', ...options, 'hello', '/bin/probe'],
    ...verb,
  ])
  try {
    await use(id, (await inspect(id)).CgroupPath)
  } finally {
    await berth.ok(['rm', '--force', id])
  }
}

const text = (cgroup: string, file: string): string =>
  readFileSync(join(cgroup, file), 'utf8').trim()

/** Of a flat keyed file, such as cpu.stat. */
function value(cgroup: string, file: string, key: string): number {
  const line = new RegExp(`^${key} (\\d+)$`, 'm').exec(text(cgroup, file))
  assert.ok(line, `${file} has no ${key}`)
  return Number(line[1])
}

test('--memory 64m kills a hog: exit code 137, and inspect says that memory was why', async () => {
  const { code } = await run('hog', ['--memory', '64m'], 'memory', String(200 * MIB))
  assert.is(code, 137)
  const { State } = await inspect('hog')
  assert.is(State.OOMKilled, true)
  assert.is(State.ExitCode, 137)
  assert.is(State.Status, 'exited')
})

test('within --memory 64m a program has its memory', async () => {
  const { code, stderr } = await run('modest', ['--memory', '64m'], 'memory', String(32 * MIB))
  assert.is(code, 0, stderr)
  assert.is((await inspect('modest')).State.OOMKilled, false)
})

test('a KILL that is no lack of memory has exit code 137 too, and is not called one', async () => {
  const { code } = await run('killed', ['--memory', '64m', '--init'], 'kill-self', 'KILL')
  assert.is(code, 137)
  assert.is((await inspect('killed')).State.OOMKilled, false)
})

test('with --oom-group false a hog dies alone, and the first process lives on', () =>
  running(['--memory', '64m', '--oom-group', 'false'], ['sleep'], async (name, cgroup) => {
    assert.is(text(cgroup, 'memory.oom.group'), '0')
    const hog = await berth.run(['exec', name, '/bin/probe', 'memory', String(200 * MIB)])
    assert.is(hog.code, 137)
    assert.is((await inspect(name)).State.Status, 'running')
  }))

test('with --oom-group true a hog takes the whole container along', () =>
  running(['--memory', '64m', '--oom-group', 'true'], ['sleep'], async (name, cgroup) => {
    assert.is(text(cgroup, 'memory.oom.group'), '1')
    await berth.run(['exec', name, '/bin/probe', 'memory', String(200 * MIB)])
    assert.is(await berth.ok(['wait', name]), '137')
    assert.is((await inspect(name)).State.OOMKilled, true)
  }))

test('--pids-limit 32 stops a fork bomb', async () => {
  const { code, stdout, stderr } = await run('bomb', ['--pids-limit', '32'], 'fork-bomb', '1000')
  assert.is(code, 0, stderr)
  assert.is(stdout, 'forked 31 EAGAIN\n')
})

test('--cpus 0.5 gives a busy loop half of a processor, within a tenth', () =>
  running(['--cpus', '0.5'], ['spin', '600'], async (_name, cgroup) => {
    assert.is(text(cgroup, 'cpu.max'), '50000 100000')
    const share = await shareUnderQuota(0.45, (key) => value(cgroup, 'cpu.stat', key))
    assert.ok(share > 0.45 && share < 0.55, `${share} of a processor`)
  }))

test('an update of memory, cpus and pids holds for the running container at once', () =>
  running(['--memory', '256m', '--pids-limit', '100'], ['sleep'], async (name, cgroup) => {
    const limits = [
      '--memory',
      '64m',
      '--memory-swap',
      '64m',
      '--cpus',
      '0.25',
      '--pids-limit',
      '8',
    ]
    await berth.ok(['update', ...limits, name])
    assert.is(text(cgroup, 'memory.max'), String(64 * MIB))
    assert.is(text(cgroup, 'cpu.max'), '25000 100000')
    assert.is(text(cgroup, 'pids.max'), '8')
    const bomb = await berth.ok(['exec', name, '/bin/probe', 'fork-bomb', '100'])
    assert.match(bomb, /^forked [4-7] EAGAIN$/)
    const hog = await berth.run(['exec', name, '/bin/probe', 'memory', String(128 * MIB)])
    assert.is(hog.code, 137)
  }))

test('pause stops the clock of CPU time, and unpause lets it go on', () =>
  running([], ['spin', '600'], async (name, cgroup) => {
    const usage = () => value(cgroup, 'cpu.stat', 'usage_usec')
    const begin = usage()
    await eventually('it runs', () => usage() > begin)
    await berth.ok(['pause', name])
    assert.is(text(cgroup, 'cgroup.freeze'), '1')
    assert.is((await inspect(name)).State.Status, 'paused')
    const frozen = usage()
    // Two further commands of some hundred milliseconds, in which a running loop would count.
    assert.match(await berth.ok(['ps', '--format', 'json']), /paused/i)
    assert.is(usage(), frozen)
    await berth.ok(['unpause', name])
    assert.is((await inspect(name)).State.Status, 'running')
    await eventually('it runs again', () => usage() > frozen)
  }))

test('stats give the memory, the processor time and the processes that are used', () =>
  running(
    ['--memory', '128m', '--pids-limit', '50'],
    ['memory', String(48 * MIB), '600'],
    async (name) => {
      await berth.ok(['exec', '--detach', name, '/bin/probe', 'spin', '600'])
      const stats = await eventually('the memory is touched', async () => {
        const out = await berth.ok(['stats', '--no-stream', '--format', 'json', name])
        const [one] = JSON.parse(out) as Record<string, string | number>[]
        return one !== undefined && Number(one['memoryBytes']) > 48 * MIB && one
      })
      assert.ok(Number(stats['memoryBytes']) < 128 * MIB)
      assert.is(Number(stats['memoryLimitBytes']), 128 * MIB)
      assert.is(Number(stats['pids']), 2)
      assert.ok(Number(stats['cpuNs']) > 0)
      const percent = Number(stats['cpuPercent'])
      assert.ok(percent > 30 && percent < 230, String(percent))
    },
  ))

test('--cgroup-parent is where the cgroup is', async () => {
  const parent = `/berth-test-${process.pid}/deep`
  const out = await berth.ok([
    ...['run', '--rm', '--net', 'none', '--cgroupns', 'host', '--cgroup-parent', parent],
    ...['--memory', '64m', 'hello', 'cat', '/proc/self/cgroup'],
  ])
  assert.match(out, new RegExp(`^0::${parent}/[0-9a-f]{64}$`, 'm'))
})

test('weights and rates of a disk are the kernel’s, and what is no disk is refused by name', async () => {
  const rates = [
    ...['--device-read-bps', '/dev/loop0:1m', '--device-write-bps', '/dev/loop0:2m'],
    ...['--device-read-iops', '/dev/loop0:30', '--device-write-iops', '/dev/loop0:40'],
  ]
  await running([...rates, '--blkio-weight', '500'], ['sleep'], async (_name, cgroup) => {
    const weight = ['io.bfq.weight', 'io.weight'].find((file) => existsSync(join(cgroup, file)))
    if (weight !== undefined) assert.is.not(text(cgroup, weight), 'default 100')
    assert.is(text(cgroup, 'io.max'), '7:0 rbps=1048576 wbps=2097152 riops=30 wiops=40')
  })
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--device-read-bps', '/dev/null:1m', 'hello'],
    /--device-read-bps: \/dev\/null is not a block device/,
  )
})

test('a limit of a controller that the machine lacks is refused by name', async () => {
  const controllers = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').split(/\s+/)
  if (controllers.includes('cpuset')) return
  await berth.refused(['run', '--rm', '--net', 'none', '--cpuset-cpus', '0', 'hello'], /cpuset/)
})

test('a device that was not given is EPERM even for who may make its node', async () => {
  const name = await berth.ok([
    ...['run', '-d', '--net', 'none', '--cap-add', 'MKNOD', 'hello', '/bin/sleep'],
  ])
  const made = await berth.run(['exec', name, '/bin/probe', 'mknod', '/kmsg', 'c', '1', '11'])
  assert.is(made.code, 0, made.stderr)
  const opened = await berth.run(['exec', name, '/bin/probe', 'open', '/kmsg', 'r'])
  assert.is(opened.code, 1)
  assert.match(opened.stderr, /EPERM/)
  // The same node of a device that every container has opens.
  await berth.ok(['exec', name, '/bin/probe', 'mknod', '/zero', 'c', '1', '5'])
  await berth.ok(['exec', name, '/bin/probe', 'open', '/zero', 'r'])
  await berth.ok(['rm', '--force', name])
})

test('a device that was given opens, as far as it was given', async () => {
  const device = ['--device', '/dev/kmsg:/dev/kmsg:r']
  const read = await run('given', device, 'open', '/dev/kmsg', 'r')
  assert.is(read.code, 0, read.stderr)
  const write = await run('given-to-read', device, 'open', '/dev/kmsg', 'w')
  assert.is(write.code, 1)
  assert.match(write.stderr, /EPERM/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
