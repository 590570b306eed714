import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'userns', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

/** How a type is asked for: `host` is what turns it off, where there is such a thing. */
interface Type {
  /** Below /proc/PID/ns. */
  readonly file: string
  /** A new one. */
  readonly own: readonly string[]
  /** The host's. */
  readonly host?: readonly string[]
  /** The option that joins one. */
  readonly joins?: string
}

const TYPES: readonly Type[] = [
  { file: 'mnt', own: [] },
  { file: 'pid', own: [], host: ['--pid', 'host'], joins: '--pid' },
  { file: 'net', own: [], host: ['--net', 'host'], joins: '--net' },
  { file: 'ipc', own: [], host: ['--ipc', 'host'], joins: '--ipc' },
  { file: 'uts', own: [], host: ['--uts', 'host'], joins: '--uts' },
  { file: 'user', own: ['--userns', 'auto'], host: ['--userns', 'host'] },
  { file: 'cgroup', own: [], host: ['--cgroupns', 'host'], joins: '--cgroupns' },
  { file: 'time', own: ['--time', 'private'], host: ['--time', 'host'], joins: '--time' },
]
const NAMES = TYPES.map(({ file }) => file)
const own = (file: string): string => readlinkSync(`/proc/self/ns/${file}`)

/** `--net none` unless the options speak of the network: no container here needs one. */
function options(given: readonly string[]): string[] {
  return given.includes('--net') ? [...given] : ['--net', 'none', ...given]
}

/** Runs the probe in a container of its own. */
function probe(given: readonly string[], ...verb: string[]): Promise<string> {
  return berth.ok(['run', '--rm', ...options(given), 'hello', '/bin/probe', ...verb])
}

interface Inspected {
  readonly State: { readonly Pid: number }
}

async function pidOf(name: string): Promise<number> {
  const [found] = JSON.parse(await berth.ok(['inspect', name])) as Inspected[]
  assert.ok(found && found.State.Pid > 1)
  return found.State.Pid
}

/** A container that only waits, for as long as `use` takes. */
async function waiting(
  given: readonly string[],
  use: (name: string, pid: number) => Promise<void>,
): Promise<void> {
  const id = await berth.ok(['run', '-d', ...options(given), 'hello', '/bin/sleep'])
  try {
    await use(id, await pidOf(id))
  } finally {
    await berth.ok(['rm', '--force', id])
  }
}

for (const { file, own: asked, host } of TYPES) {
  test(`a container's ${file} namespace is its own, seen from inside and outside`, () =>
    waiting(asked, async (name, pid) => {
      const inside = await berth.ok(['exec', name, '/bin/probe', 'readlink', `/proc/1/ns/${file}`])
      assert.match(inside, new RegExp(`^${file}:\\[\\d+\\]$`))
      assert.is(inside, readlinkSync(`/proc/${pid}/ns/${file}`))
      assert.is.not(inside, own(file))
    }))

  if (!host) continue
  test(`the ${file} namespace is the host's where that is asked for`, async () => {
    assert.is(await probe(host, 'readlink', `/proc/self/ns/${file}`), own(file))
    await waiting(host, async (_name, pid) => {
      assert.is(readlinkSync(`/proc/${pid}/ns/${file}`), own(file))
    })
  })
}

for (const { file, own: asked, joins } of TYPES) {
  if (!joins) continue
  test(`a container joins the ${file} namespace of another one, by its name and by a path`, () =>
    waiting(asked, async (name, pid) => {
      const outside = readlinkSync(`/proc/${pid}/ns/${file}`)
      for (const how of [`container:${name}`, `ns:/proc/${pid}/ns/${file}`]) {
        const given = [joins, how]
        assert.is(await probe(given, 'readlink', `/proc/self/ns/${file}`), outside, how)
        await waiting(given, async (_name, other) => {
          assert.is(readlinkSync(`/proc/${other}/ns/${file}`), outside, how)
          assert.is.not(readlinkSync(`/proc/${other}/ns/mnt`), readlinkSync(`/proc/${pid}/ns/mnt`))
        })
      }
    }))
}

test('an exec is in all eight namespaces of its container', () =>
  waiting(['--userns', 'auto', '--time', 'private'], async (name, pid) => {
    for (const file of NAMES) {
      const inside = await berth.ok([
        'exec',
        name,
        '/bin/probe',
        'readlink',
        `/proc/self/ns/${file}`,
      ])
      assert.is(inside, readlinkSync(`/proc/${pid}/ns/${file}`), file)
      assert.is.not(inside, own(file))
    }
  }))

test('two containers share no namespace', () =>
  waiting(['--userns', 'auto', '--time', 'private'], (_name, first) =>
    waiting(['--userns', 'auto', '--time', 'private'], async (_other, second) => {
      for (const file of NAMES) {
        assert.is.not(
          readlinkSync(`/proc/${first}/ns/${file}`),
          readlinkSync(`/proc/${second}/ns/${file}`),
        )
      }
    }),
  ))

test('a container cannot join one that is not running', async () => {
  const id = await berth.ok(['create', '--net', 'none', 'hello'])
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--pid', `container:${id}`, 'hello'],
    /is not running/,
  )
  await berth.ok(['rm', id])
})

test('what is no namespace of that type is refused, and nothing is left', async () => {
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--ipc', `ns:/proc/${process.pid}/ns/uts`, 'hello'],
    /ipc|namespace/,
  )
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--uts', 'ns:/proc/self/ns/nothing', 'hello'],
    /nothing/,
  )
  assert.is(await berth.ok(['ps', '--all', '--quiet']), '')
})

test('the first process is PID 1, and sees none of the host', async () => {
  const seen = (await probe([], 'ps')).split('\n')
  assert.is(seen.length, 1, seen.join('\n'))
  assert.match(seen[0] ?? '', /^1 0 R /)
})

test("with the host's PID namespace it sees the host's processes", async () => {
  const seen = (await probe(['--pid', 'host'], 'ps')).split('\n')
  assert.ok(seen.some((line) => line.startsWith(`${process.pid} `)))
})

test("in a joined PID namespace a container sees the other's processes", () =>
  waiting([], async (name) => {
    const seen = (await probe(['--pid', `container:${name}`], 'ps')).split('\n')
    assert.match(seen[0] ?? '', /^1 0 S /)
    assert.is(seen.length, 2, seen.join('\n'))
  }))

test('a changed hostname is seen inside only', () =>
  waiting(['--hostname', 'first', '--cap-add', 'SYS_ADMIN'], async (name, pid) => {
    const before = hostname()
    assert.is(await berth.ok(['exec', name, '/bin/probe', 'hostname']), 'first')
    await berth.ok(['exec', name, '/bin/probe', 'hostname', 'second'])
    assert.is(await berth.ok(['exec', name, '/bin/probe', 'hostname']), 'second')
    assert.is(hostname(), before)
    // Another container that joins it has its name, and the change of one is seen by both.
    const joined = ['--uts', `ns:/proc/${pid}/ns/uts`]
    assert.is(await probe(joined, 'hostname'), 'second')
  }))

test('the interfaces are lo alone, and it is up', async () => {
  const seen = await probe([], 'interfaces')
  assert.is(new Set(seen.split('\n').map((line) => line.split(' ')[0])).size, 1, seen)
  assert.match(seen, /127\.0\.0\.1/)
})

test('a listener in one network namespace is reached by who joins it, and not from the host', () =>
  waiting([], async (name) => {
    await berth.ok([
      'exec',
      '--detach',
      name,
      '/bin/probe',
      'listen',
      '127.0.0.1',
      '7777',
      'well met',
      '1',
    ])
    const connect = ['connect', '127.0.0.1', '7777']
    const refused = await berth.run([
      'run',
      '--rm',
      '--net',
      'none',
      'hello',
      '/bin/probe',
      ...connect,
    ])
    assert.is(refused.code, 1)
    assert.match(refused.stderr, /ECONNREFUSED/)
    assert.match(await probe(['--net', `container:${name}`], ...connect), /well met/)
  }))

// msgget(2) and shmget(2) by number, since what matters is the kernel's table and not a library.
const IPC_CREATE_EXCLUSIVE = 0o3600
const MSGGET = process.arch === 'arm64' ? 186 : 68
const KEY = 4711

test('System V IPC is the container’s own: the same key is new in each, and there for who joins', () =>
  waiting([], async (name) => {
    const get = ['syscall', String(MSGGET), String(KEY), String(IPC_CREATE_EXCLUSIVE)]
    await berth.ok(['exec', name, '/bin/probe', ...get])
    // A second one with the same key would be EEXIST in the same table.
    await probe([], ...get)
    const again = await berth.run(['exec', name, '/bin/probe', ...get])
    assert.match(again.stderr, /EEXIST/)
    const joined = await berth.run([
      ...['run', '--rm', '--net', 'none', '--ipc', `container:${name}`],
      ...['hello', '/bin/probe', ...get],
    ])
    assert.match(joined.stderr, /EEXIST/)
  }))

test('POSIX shared memory is the container’s own, message queues are seen by who joins too', () =>
  waiting([], async (name) => {
    await berth.ok(['exec', name, '/bin/probe', 'write-file', '/dev/shm/mine', 'shared'])
    // A queue cannot be written to as a file, but making one this way works (mq_overview(7)).
    await berth.run(['exec', name, '/bin/probe', 'write-file', '/dev/mqueue/mine', ''])
    assert.is(await probe([], 'ls', '/dev/shm'), '')
    assert.is(await probe([], 'ls', '/dev/mqueue'), '')
    const joined = ['--ipc', `container:${name}`]
    assert.match(await probe(joined, 'ls', '/dev/mqueue'), /mine/)
  }))

test('the cgroup namespace ends at the container’s cgroup', async () => {
  assert.match(await probe([], 'cat', '/proc/self/cgroup'), /^0::\/$/m)
  assert.match(await probe(['--cgroupns', 'host'], 'cat', '/proc/self/cgroup'), /^0::\/.+$/m)
})

test('the user namespace has the map that was asked for', async () => {
  const map = await probe(['--userns', '200000:300000:1000'], 'cat', '/proc/self/uid_map')
  assert.equal(map.trim().split(/\s+/), ['0', '200000', '1000'])
  const gids = await probe(['--userns', '200000:300000:1000'], 'cat', '/proc/self/gid_map')
  assert.equal(gids.trim().split(/\s+/), ['0', '300000', '1000'])
})

test('the offsets of a time namespace can be read, and are none', async () => {
  const offsets = await probe(['--time', 'private'], 'cat', '/proc/self/timens_offsets')
  assert.equal(
    offsets.split('\n').map((line) => line.trim().split(/\s+/)),
    [
      ['monotonic', '0', '0'],
      ['boottime', '0', '0'],
    ],
  )
})

test("a container's mounts are not the host's, and the host's not its own", () =>
  waiting(['--tmpfs', '/mnt'], async (name, pid) => {
    const inside = await berth.ok(['exec', name, '/bin/probe', 'cat', '/proc/1/mountinfo'])
    assert.match(inside, / \/mnt .* tmpfs /)
    assert.is(
      inside.split('\n').length,
      readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trimEnd().split('\n').length,
    )
    const devices = (text: string) => new Set(text.split('\n').map((line) => line.split(' ')[2]))
    const host = devices(readFileSync('/proc/self/mountinfo', 'utf8'))
    const mnt = / (\d+:\d+) \/ \/mnt /.exec(inside)?.[1]
    assert.ok(mnt !== undefined && !host.has(mnt))
  }))

test('nothing is left behind', nothingIsLeft)

test.run()
