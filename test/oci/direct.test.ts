/** What native/front does itself, without a daemon and without Node: the same as Node does, and what it does not know it leaves alone. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { lockFile } from '../../src/kernel/lock.ts'
import { type OciRecord, placeOf, writeRecord } from '../../src/oci/record.ts'
import { eventually } from '../lib/eventually.ts'
import type { Front } from '../lib/front.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

process.env['BERTH_TEST_FRONT'] = 'alone'
const { frontOfFile } = await import('../lib/front.ts')
const { ociOfFile } = await import('../lib/oci.ts')
const { oci, nothingIsLeft } = ociOfFile()
const front = frontOfFile() as Front

/** Each alone in its line of commands. */
const ALIVE = 'exec sleep 1000'

function said(file: string, words: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const program = file === process.execPath ? [join(REPOSITORY, 'bin/berth-oci.cjs')] : []
  const args = [...program, '--root', oci.root, ...words]
  const { status, signal, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', env })
  return {
    ...{ status, signal, stdout },
    stderr: stderr.replaceAll(/time="?[^ "]+"?|"time":"[^"]+"/g, 'TIME'),
  }
}
const byFront = (...words: string[]) => said(front.program, words)
const byNode = (...words: string[]) => said(process.execPath, words)
const recordOf = (id: string): OciRecord & { pid: number } =>
  JSON.parse(readFileSync(placeOf(oci.root, id).record, 'utf8'))

function doneByFront(...words: string[]): void {
  front.leftToNode()
  assert.equal(byFront(...words).status, 0, words.join(' '))
  assert.equal(front.leftToNode(), [], words.join(' '))
}

async function make(id: string, ...patch: Parameters<typeof oci.bundle>[2][]): Promise<void> {
  if (!existsSync(join(oci.directory, id))) oci.bundle(id, ALIVE, ...patch)
  assert.is((await oci.create(id)).code, 0, oci.output(id))
}

test('state, start, kill and delete of a plain container need no Node, and tell what Node tells', async () => {
  await make('plain', (spec) => {
    spec.annotations = { a: 'x"\\y\n', 'b{},:[': 'ü\u2028', c: '' }
  })
  const same = (status: string): void => {
    const state = byNode('state', 'plain')
    assert.is(JSON.parse(state.stdout).status, status)
    assert.equal(byFront('state', 'plain'), state)
  }
  front.leftToNode()
  same('created')
  doneByFront('start', 'plain')
  same('running')
  byNode('pause', 'plain')
  same('paused')
  byNode('resume', 'plain')
  doneByFront('kill', 'plain', 'CONT')
  doneByFront('kill', 'plain', 'sigkill')
  await eventually(
    'it has ended',
    () => JSON.parse(byFront('state', 'plain').stdout).status === 'stopped',
  )
  same('stopped')
  doneByFront('--log=/dev/null', '--log-format', 'json', '--systemd-cgroup', 'delete', 'plain')
  assert.equal(readdirSync(oci.root), [])
  assert.not.ok(existsSync(oci.cgroup('plain')))
  await make('plain')
  doneByFront('delete', 'plain')
  await make('plain')
  doneByFront('start', 'plain')
  doneByFront('delete', '-f', 'plain')
  assert.equal(readdirSync(oci.root), [])
  assert.not.ok(existsSync(oci.cgroup('plain')))
})

test('what it refuses is told by Node', async () => {
  await make('refused')
  const same = (error: RegExp, ...words: string[]): void => {
    const told = byFront(...words)
    assert.match(told.stderr, error)
    assert.equal(told, byNode(...words), words.join(' '))
  }
  byFront('start', 'refused')
  same(/not created/, 'start', 'refused')
  same(/not stopped/, 'delete', 'refused')
  same(/unknown signal/, 'kill', 'refused', 'NONE')
  same(/unknown option/, 'start', '--what', 'refused')
  same(/too many|Expected/i, 'delete', 'refused', 'more')
  same(/does not exist/, 'state', 'other')
  same(/invalid container id/, 'state', 'a/../refused')
  same(/invalid log-format/, '--log-format', 'xml', 'state', 'refused')
  byNode('pause', 'refused')
  same(/paused/, 'start', 'refused')
  same(/not stopped/, 'delete', 'refused')
  byFront('kill', 'refused', 'KILL')
  byNode('resume', 'refused')
  await eventually('it has ended', () => JSON.parse(byFront('state', 'refused').stdout).pid === 0)
  same(/not running/, 'kill', 'refused', '15')
  doneByFront('delete', 'refused')
})

test('a start that fails is told as by Node, and once', async () => {
  const errors = []
  const bundle = oci.bundle('broken', ALIVE, (spec) => {
    Object.assign(spec.process, { args: ['/broken'] })
  })
  writeFileSync(join(bundle, 'rootfs/broken'), '\x7fELF broken', { mode: 0o755 })
  for (const by of [byFront, byNode]) {
    assert.is((await oci.create('broken')).code, 0)
    errors.push(by('start', 'broken'))
    assert.match(by('start', 'broken').stderr, /stopped, not created/)
    assert.is(by('delete', 'broken').status, 0)
  }
  assert.match(errors[0]?.stderr ?? '', /Exec format error/)
  assert.equal(errors[0], errors[1])
  await make('believed')
  const env = { ...process.env, BERTH_OCI_START: '0' }
  assert.is(said(front.program, ['start', 'believed'], env).status, 0)
  assert.match(said(front.program, ['start', 'believed'], env).stderr, /not created/)
  doneByFront('delete', '--force', 'believed')
})

test('hooks, and a container that has the PID namespace of others, are for Node', async () => {
  const told = join(oci.directory, 'told')
  for (const kind of ['startContainer', 'poststart', 'poststop'] as const) {
    const inside = kind === 'startContainer'
    await make(kind, (spec) => {
      const touch = inside ? ['touch', '/dev/shm/told'] : ['touch', told]
      spec.hooks = { [kind]: [{ path: '/bin/busybox', args: touch }] }
    })
    byFront('start', kind)
    if (inside) assert.is(byNode('exec', kind, 'test', '-e', '/dev/shm/told').status, 0)
    assert.is(byFront('delete', '--force', kind).status, 0)
    assert.is(existsSync(told), !inside)
    spawnSync('rm', ['-f', told])
  }
  await make('plain')
  const path = `/proc/${recordOf('plain').pid}/ns/pid`
  for (const [id, pids] of [
    ['host', []],
    ['joined', [{ type: 'pid', path }]],
  ] as const) {
    await make(id, (spec) => {
      const others = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'pid')
      spec.linux.namespaces = [...others, ...pids]
    })
    front.leftToNode()
    byFront('start', id)
    byFront('delete', '--force', id)
    assert.is(front.leftToNode().length, 2)
  }
  doneByFront('delete', '--force', 'plain')
})

/** A process and a cgroup that are nothing of the container's. */
async function others(
  act: (process: ChildProcess, cgroup: string) => Promise<void>,
): Promise<void> {
  const other = spawn('sleep', ['1000'])
  const cgroup = oci.cgroup('others')
  mkdirSync(cgroup)
  writeFileSync(join(cgroup, 'cgroup.procs'), String(other.pid))
  try {
    await act(other, cgroup)
    assert.is(other.signalCode, null, 'it lives')
    assert.ok(existsSync(cgroup))
  } finally {
    const ended = new Promise((resolve) => other.once('exit', resolve))
    other.kill('SIGKILL')
    await ended
    spawnSync('rmdir', [cgroup])
  }
}

test('a process that has got the number, or a group that has got the place, is left alone', async () => {
  await others(async (other, cgroup) => {
    await make('reused')
    const place = placeOf(oci.root, 'reused')
    const record = recordOf('reused')
    process.kill(record.pid, 'SIGKILL')
    await eventually('it has ended', () => JSON.parse(byFront('state', 'reused').stdout).pid === 0)
    writeRecord(place, { ...record, pid: other.pid ?? 0, cgroup })
    assert.is(JSON.parse(byFront('state', 'reused').stdout).status, 'stopped')
    assert.match(byFront('kill', 'reused', 'KILL').stderr, /not running/)
    doneByFront('delete', '--force', 'reused')
    // The real one's.
    spawnSync('rmdir', [record.cgroup])
  })
})

test('a damaged record is for Node, whatever is in it', async () => {
  await make('hostile')
  const { record } = placeOf(oci.root, 'hostile')
  const good = readFileSync(record, 'utf8')
  const texts = [
    ...Array.from({ length: 20 }, (_, i) => good.slice(0, Math.floor((good.length * i) / 20))),
    ...['"', '\\', '{', '}', '[', ',', ':', '\0', '"a":"\\'].flatMap((part) => [
      part,
      good.slice(0, -1) + part,
      part + good,
      good.replace('"plain":true', `"plain":${part}true`),
    ]),
    good.replace('"plain":true', '"plain":false'),
    good.replace(/"pid":\d+/, '"pid":-1'),
    good.replace(/"pid":\d+/, '"pid":99999999999999999999999'),
    good.replace(/"startTime":"\d+"/, '"startTime":""'),
    good.replace(/"cgroup":"[^"]+"/, `"cgroup":"${'/x'.repeat(3000)}"`),
    good.replace(/"cgroup":"[^"]+"/, '"cgroup":"relative"'),
    `${'['.repeat(100_000)}`,
    ' '.repeat(2 * 1024 * 1024),
    good.replace('{}', `{"a":"${'b'.repeat(1024 * 1024)}"}`),
  ]
  const fast = { ...process.env, PATH: join(oci.directory, 'no-node') }
  mkdirSync(fast.PATH)
  // In Node's place: who gets here has not been done.
  writeFileSync(join(fast.PATH, 'node'), '#!/bin/sh\nexit 99\n', { mode: 0o755 })
  const program = join(front.directory, 'berth-oci')
  for (const text of texts.filter((each) => each !== good)) {
    writeFileSync(record, text)
    for (const word of ['state', 'delete']) {
      const { status, signal } = said(program, [word, 'hostile'], fast)
      assert.equal(
        { status, signal },
        { status: 99, signal: null },
        `${word} of ${text.slice(0, 200)}`,
      )
    }
  }
  writeFileSync(record, good)
  doneByFront('delete', '--force', 'hostile')
})

test('it waits for whoever has the container, and does not act on what was before', async () => {
  await make('locked')
  const place = placeOf(oci.root, 'locked')
  const lock = await lockFile(place.lock, { exclusive: true })
  const child = spawn(front.program, ['--root', oci.root, 'start', 'locked'], { stdio: 'pipe' })
  let error = ''
  child.stderr.on('data', (bytes) => {
    error += bytes
  })
  const code = new Promise((resolve) => child.once('exit', resolve))
  await delay(300)
  assert.is(child.exitCode, null)
  assert.is(JSON.parse(byFront('state', 'locked').stdout).status, 'created')
  const { pid } = recordOf('locked')
  process.kill(pid, 'SIGKILL')
  const status = () => JSON.parse(byFront('state', 'locked').stdout).status
  await eventually('it has ended', () => status() === 'stopped')
  lock.release()
  assert.is(await code, 1)
  assert.match(error, /not created/)
  doneByFront('delete', 'locked')
})

test('a container that is stopped before its start holds up nobody who asks for its state', async () => {
  await make('halted')
  const { pid } = recordOf('halted')
  process.kill(pid, 'SIGSTOP')
  for (let i = 0; i < 20; i++) {
    const args = ['--root', oci.root, 'state', 'halted']
    const { error } = spawnSync(front.program, args, { timeout: 20_000 })
    assert.is(error, undefined, `call ${i}`)
  }
  process.kill(pid, 'SIGCONT')
  await eventually('it is there', () => byFront('state', 'halted').stdout.includes('created'))
  doneByFront('delete', 'halted')
})

test('groups below, and what a killed removal has left, are taken away, too', async () => {
  await make('nested')
  mkdirSync(join(oci.cgroup('nested'), 'a/b'), { recursive: true })
  const { pid: ended } = spawnSync('true')
  mkdirSync(join(oci.root, `.trash-left-${ended}/0`), { recursive: true })
  assert.is(byFront('delete', '--force', 'nested').status, 0)
  assert.not.ok(existsSync(oci.cgroup('nested')))
  assert.equal(readdirSync(oci.root), [])
  await make('nested')
  mkdirSync(join(oci.cgroup('nested'), 'a/b'), { recursive: true })
  assert.is(byFront('delete', '--force', 'nested').status, 0)
  assert.not.ok(existsSync(oci.cgroup('nested')))
  assert.equal(readdirSync(oci.root), [])
})

test('nothing is left behind', nothingIsLeft)
test.run()
