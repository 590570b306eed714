/** kill -9 of a monitor, and of a container's first process from outside. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findContainer, listContainers } from '../../src/engine/find.ts'
import type { Container } from '../../src/engine/types.ts'
import { berthOfFile, finish } from '../lib/berth.ts'
import { engineOf, runDetached } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const warnings: string[] = []
const engine = engineOf(berth, warnings)
/** A command's start on a busy machine. */
const SLOW = { withinMs: 30_000 }
const sleeper = ['hello', 'sleep', '1000']

/** A container whose monitor is killed; as it was before. */
async function lost(...words: string[]): Promise<Container> {
  const { id } = await runDetached(engine, '--net', 'none', ...words)
  const container = await findContainer(engine, id)
  killMonitor(container)
  return container
}

function killMonitor({ status }: Container): void {
  process.kill(status.monitorPid, 'SIGKILL')
}

/** Dead; when the machine's first process buries it is not ours to say. */
function isDead(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return true
  return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
}

async function rmForce(name: string): Promise<void> {
  await berth.ok(['rm', '-f', name])
  assert.equal(await listContainers(engine, { all: true }), [])
}

const LOOKS: readonly (readonly string[])[] = [
  ['ps'],
  ['ps', '-a'],
  ['inspect', 'lost'],
  ['logs', 'lost'],
  ['wait', 'lost'],
  ['stop', 'lost'],
  ['system', 'prune', '-f'],
]

for (const look of LOOKS) {
  test(`after kill -9 of the monitor \`berth ${look.join(' ')}\` ends the container's processes`, async () => {
    const { status } = await lost('--name', 'lost', '--init', ...sleeper)
    assert.not(isDead(status.pid))
    await berth.ok(look)
    assert.ok(isDead(status.pid))
    await rmForce('lost')
  })
}

test('a lost container has exit code 255 and says why', async () => {
  await lost('--name', 'lost', ...sleeper)
  assert.match(await berth.ok(['ps', '-a']), /Exited \(255\) /)
  const [{ State }] = JSON.parse(await berth.ok(['inspect', 'lost'])) as [
    { State: { Status: string; ExitCode: number; Error: string } },
  ]
  assert.is(State.Status, 'exited')
  assert.is(State.ExitCode, 255)
  assert.is(State.Error, 'its monitor was killed, so its exit code is not known')
  assert.is(await berth.ok(['wait', 'lost']), '255')
  await berth.refused(
    ['exec', 'lost', 'true'],
    /^berth: cannot exec in container lost: it is stopped$/m,
  )
  await rmForce('lost')
})

test('a lost container starts again', async () => {
  await lost('--name', 'lost', ...sleeper)
  await berth.ok(['start', 'lost'])
  const { status } = await findContainer(engine, 'lost')
  assert.is(status.state, 'running')
  assert.is(readFileSync(`/proc/${status.pid}/comm`, 'utf8'), 'sleep\n')
  await rmForce('lost')
})

test('a lost container with --restart always is started by the next start only', async () => {
  await lost('--name', 'lost', '--restart', 'always', ...sleeper)
  assert.match(await berth.ok(['ps', '-a']), /Exited \(255\) /)
  await berth.ok(['restart', 'lost'])
  assert.is((await findContainer(engine, 'lost')).status.state, 'running')
  await rmForce('lost')
})

test('the name of a lost container is free after rm -f at once', async () => {
  await lost('--name', 'lost', ...sleeper)
  await berth.ok(['rm', '-f', 'lost'])
  assert.is(
    await berth.ok(['run', '--rm', '--net', 'none', '--name', 'lost', 'hello', 'echo', 'again']),
    'again',
  )
})

test('exec, logs -f, attach, run and wait end when the monitor is killed, each with its reason', async () => {
  await runDetached(engine, '--net', 'none', '--name', 'lost', '-i', ...sleeper)
  const container = await findContainer(engine, 'lost')
  const commands: [string[], number, RegExp][] = [
    [['exec', 'lost', 'sleep', '1000'], 125, /^berth: the monitor has closed the connection/],
    [['attach', 'lost'], 125, /^berth: the monitor has closed the connection/],
    [['logs', '-f', 'lost'], 125, /^berth: container lost was lost: its monitor was killed/],
    [['wait', 'lost'], 0, /^$/],
  ]
  const children = commands.map(([words]) => berth.spawn(words))
  // stdin stays open until they end, or attach would close the container's.
  const results = children.map((child) => {
    const end = child.stdin.end.bind(child.stdin)
    child.stdin.end = (() => child.stdin) as typeof child.stdin.end
    child.once('exit', () => end())
    return finish(child, 'a client')
  })
  await eventually('all are connected', () => connections(container) >= commands.length, {
    withinMs: 30_000,
  })
  killMonitor(container)
  for (const [i, [words, code, reason]] of commands.entries()) {
    const result = await results[i]
    assert.is(result?.code, code, words.join(' '))
    assert.match(result?.stderr ?? '', reason)
    assert.match(result?.stderr ?? '', /^([^\n]+\n)?$/, 'one line')
  }
  assert.is((await results[3])?.stdout, '255\n')
  await rmForce('lost')
})

test('berth run ends with 125 and its reason when the monitor is killed; with --rm nothing is left', async () => {
  const client = berth.spawn(['run', '--rm', '--net', 'none', '--name', 'lost', ...sleeper])
  const result = finish(client, 'berth run')
  const container = await eventually(
    'it runs',
    async () => {
      const found = await findContainer(engine, 'lost')
      return found.status.state === 'running' && found
    },
    SLOW,
  )
  killMonitor(container)
  const { code, stderr } = await result
  assert.is(code, 125)
  assert.match(stderr, /^berth: the monitor has closed the connection: it was killed[^\n]*\n$/)
  assert.equal(await listContainers(engine, { all: true }), [])
  assert.ok(isDead(container.status.pid))
})

test("kill -9 of a container's first process from outside is exit 137", async () => {
  const client = berth.spawn(['run', '--net', 'none', '--name', 'first', ...sleeper])
  const result = finish(client, 'berth run')
  const { status } = await eventually(
    'it runs',
    async () => {
      const found = await findContainer(engine, 'first')
      return found.status.state === 'running' && found
    },
    SLOW,
  )
  process.kill(status.pid, 'SIGKILL')
  assert.is((await result).code, 137)
  assert.is(await berth.ok(['wait', 'first']), '137')
  assert.match(await berth.ok(['ps', '-a']), /Exited \(137\) /)
  await rmForce('first')
})

test('monitors of other containers are not touched by any of it', async () => {
  await runDetached(engine, '--net', 'none', '--name', 'other', ...sleeper)
  await lost('--name', 'lost', ...sleeper)
  await berth.ok(['system', 'prune', '-f'])
  assert.equal(
    (await listContainers(engine, { all: true })).map(({ record }) => record.name),
    ['other'],
  )
  await rmForce('other')
})

test('the engine had nothing to warn of', () => {
  assert.equal(warnings, [])
})

test('nothing is left behind', nothingIsLeft)

/** Clients of a container's monitor: its sockets of the name `ctl`, but for the one that listens. */
function connections({ status }: Container): number {
  const named = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('/ctl'))
  const inodes = new Set(named.map((line) => line.split(/\s+/)[6]))
  const directory = `/proc/${status.monitorPid}/fd`
  const own = readdirSync(directory).flatMap((fd): string[] => {
    const [, inode = ''] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`${directory}/${fd}`)) ?? []
    return inodes.has(inode) ? [inode] : []
  })
  return own.length - 1
}

test.run()
