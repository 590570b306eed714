/** Hooks: where they run, when, with what; and what a failure of each does. */
import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
const KINDS = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const

/** A shell script of the host that writes what it sees. */
function script(name: string, text: string): string {
  const path = join(oci.directory, name)
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
  return path
}

test('each runs at its time, in its namespaces, with the state on stdin and no other environment', async () => {
  const log = join(oci.directory, 'log')
  const look = script(
    'look',
    'echo "$1 $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/pid) $(pwd) env=$(env | grep -v -E "^(PWD|_|SHLVL|OLDPWD)=" | sort | tr "\\n" ,) $(cat | tr -d "\\n")" >>' +
      log,
  )
  const bundle = oci.bundle('order', 'cat /seen; exec sleep 1000', (spec) => {
    spec.root = { path: 'rootfs' }
    spec.annotations = { a: 'b' }
    spec.hooks = Object.fromEntries(
      KINDS.filter((kind) => kind !== 'startContainer').map((kind) => [
        kind,
        [{ path: look, args: ['look', kind], ...(kind === 'poststop' ? {} : { env: ['X=1'] }) }],
      ]),
    )
    // A program of the container, with the container's rights.
    spec.hooks.startContainer = [
      {
        path: '/bin/sh',
        args: ['sh', '-c', 'cat >/seen; id -u >>/seen; grep CapEff /proc/self/status >>/seen'],
      },
    ]
  })
  assert.is((await oci.create('order')).code, 0, oci.output('order'))
  const lines = () => readFileSync(log, 'utf8').trim().split('\n')
  assert.equal(
    lines().map((line) => line.split(' ')[0]),
    ['prestart', 'createRuntime', 'createContainer'],
  )
  await oci.ok(['start', 'order'])
  await eventually('it runs', () => oci.output('order').includes('CapEff'))
  await oci.ok(['delete', '--force', 'order'])

  const seen = lines().map((line) => {
    const [kind, mnt, pid, cwd, env, ...state] = line.split(' ')
    return {
      kind,
      mnt,
      pid,
      cwd,
      env,
      state: JSON.parse(state.join(' ')) as Record<string, unknown>,
    }
  })
  assert.equal(
    seen.map(({ kind }) => kind),
    KINDS.filter((kind) => kind !== 'startContainer'),
  )
  const [first, , inside] = seen
  for (const at of seen) {
    assert.is(at.cwd, bundle)
    assert.is(at.env, at.kind === 'poststop' ? 'env=' : 'env=X=1,')
    assert.is(at.state['id'], 'order')
    assert.is(at.state['bundle'], bundle)
    assert.equal(at.state['annotations'], { a: 'b' })
    const isInside = at.kind === 'createContainer'
    assert.is(at.mnt === first?.mnt, !isInside, `${at.kind} in ${at.mnt}`)
    assert.is(at.pid === first?.pid, !isInside)
  }
  assert.equal(
    seen.map(({ state }) => state['status']),
    ['created', 'creating', 'creating', 'running', 'stopped'],
  )
  assert.type(first?.state['pid'], 'number')
  assert.is(inside?.state['pid'], first?.state['pid'])
  assert.not.ok(Object.hasOwn(seen.at(-1)?.state ?? {}, 'pid'))

  const [, state = '', uid, capabilities] = /^(\{.*\})(\d+)\n(.*)/.exec(oci.output('order')) ?? []
  assert.is((JSON.parse(state) as { status: string }).status, 'created')
  assert.is(uid, '0')
  assert.match(capabilities ?? '', /0000000020000420/)
})

test('a host hook or one inside that fails, or does not end, ends the creation, and nothing is left', async () => {
  const bad = script('bad', 'echo "went wrong" >&2; exit 3')
  const slow = script('slow', 'sleep 1000')
  for (const kind of ['prestart', 'createRuntime', 'createContainer'] as const) {
    oci.bundle(`bad-${kind}`, 'true', (spec) => {
      spec.hooks = { [kind]: [{ path: bad }] }
    })
    const failed = await oci.create(`bad-${kind}`)
    assert.is(failed.code, 1)
    assert.match(failed.stderr, new RegExp(`${kind} hook .*/bad ended with 3: went wrong`))
    oci.configure(join(oci.directory, `bad-${kind}`), `bad-${kind}`, 'true', (spec) => {
      spec.hooks = { [kind]: [{ path: slow, timeout: 1 }] }
    })
    assert.match((await oci.create(`bad-${kind}`)).stderr, /did not end within 1000 ms/)
    assert.not.ok(existsSync(join(oci.root, `bad-${kind}`)))
    assert.not.ok(existsSync(oci.cgroup(`bad-${kind}`)))
  }
  await oci.refused(
    ['create', '--bundle', bundleWith({ path: 'relative' }), 'x'],
    /hooks\.prestart\[0\]\.path/,
  )
  await oci.refused(
    ['create', '--bundle', bundleWith({ path: '/x', timeout: 0 }), 'x'],
    /hooks\.prestart\[0\]\.timeout/,
  )
})

let count = 0
const bundleWith = (hook: { path: string; timeout?: number }): string =>
  oci.bundle(`judged-${++count}`, 'true', (spec) => {
    spec.hooks = { prestart: [hook] }
  })

test('a startContainer or poststart hook that fails ends the start and the container; a poststop hook only warns', async () => {
  const bad = script('bad-late', 'exit 4')
  oci.bundle('start', 'echo ran; exec sleep 1000', (spec) => {
    spec.hooks = { startContainer: [{ path: '/bin/false' }], poststop: [{ path: bad }] }
  })
  await oci.create('start')
  await oci.refused(['start', 'start'], /startContainer hook \/bin\/false ended with 1/)
  await eventually('it has stopped', async () => (await oci.status('start')) === 'stopped')
  assert.is(oci.output('start'), '')
  const { code, stderr } = await oci.run(['delete', 'start'])
  assert.is(code, 0)
  assert.match(stderr, /level=warning msg="poststop hook .* ended with 4/)

  oci.bundle('post', 'exec sleep 1000', (spec) => {
    spec.hooks = { poststart: [{ path: bad }] }
  })
  await oci.create('post')
  await oci.refused(['start', 'post'], /poststart hook/)
  await eventually('it has stopped', async () => (await oci.status('post')) === 'stopped')
  await oci.ok(['delete', 'post'])
})

test('one of the host that enters the new mount namespace mounts below the root by its path on the host', async () => {
  // As the hook that brings the libraries of a GPU does.
  for (const users of [false, true]) {
    const id = `enters-${users}`
    const directory = join(oci.directory, id)
    const enter = script(
      `hook-${id}`,
      `pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/' | tr -d '\\n')
exec nsenter --mount --target "$pid" sh -c 'mount --bind "$0/given" "$0/rootfs/mnt"' ${directory}`,
    )
    oci.bundle(id, 'cat /mnt/word', (spec) => {
      spec.hooks = { createRuntime: [{ path: enter }] }
      if (users) {
        spec.linux.namespaces = [...(spec.linux.namespaces ?? []), { type: 'user' }]
        const mappings = [{ containerID: 0, hostID: 0, size: 1000 }]
        spec.linux.uidMappings = mappings
        spec.linux.gidMappings = mappings
      }
    })
    mkdirSync(join(directory, 'rootfs/mnt'), { recursive: true })
    mkdirSync(join(directory, 'given'))
    writeFileSync(join(directory, 'given/word'), `seen ${users}\n`)
    const { code, stderr } = await oci.create(id)
    assert.is(code, 0, stderr)
    await oci.ok(['start', id])
    await eventually('it has ended', async () => (await oci.status(id)) === 'stopped')
    assert.is(oci.output(id), `seen ${users}\n`)
    await oci.ok(['delete', id])
  }
})

test('a mount of what is above the root shows the host there, not the container with its /proc before that is masked', async () => {
  oci.bundle('above', 'ls /host/above/rootfs/proc; echo listed', (spec) => {
    spec.hooks = { createRuntime: [{ path: '/bin/true' }] }
    const mount = { destination: '/host', source: oci.directory, options: ['rbind', 'ro'] }
    spec.mounts = [...(spec.mounts ?? []), mount]
  })
  mkdirSync(join(oci.directory, 'above/rootfs/host'), { recursive: true })
  mkdirSync(join(oci.directory, 'above/rootfs/proc'), { recursive: true })
  const { code, stderr } = await oci.create('above')
  assert.is(code, 0, stderr)
  await oci.ok(['start', 'above'])
  await eventually('it has ended', async () => (await oci.status('above')) === 'stopped')
  assert.is(oci.output('above'), 'listed\n')
  await oci.ok(['delete', 'above'])
})

test('they run where a mount namespace is joined, too', async () => {
  const holder = spawn('unshare', ['--mount', 'sleep', '1000'], { stdio: 'ignore' })
  try {
    const path = `/proc/${holder.pid}/ns/mnt`
    const host = readlinkSync('/proc/self/ns/mnt')
    await eventually('it has its namespace', () => readlinkSync(path) !== host)
    const said = join(oci.directory, 'joined')
    oci.bundle('joining', 'true', (spec) => {
      spec.mounts = []
      const others = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'mount')
      spec.linux.namespaces = [...others, { type: 'mount', path }]
      spec.hooks = {
        createRuntime: [{ path: script('join', `echo runtime >>${said}`) }],
        createContainer: [{ path: script('join2', `echo container >>${said}`) }],
      }
    })
    const { code, stderr } = await oci.create('joining')
    assert.is(code, 0, stderr)
    assert.is(readFileSync(said, 'utf8'), 'runtime\ncontainer\n')
    await oci.ok(['delete', '--force', 'joining'])
  } finally {
    holder.kill('SIGKILL')
  }
})

test('nothing is left behind', nothingIsLeft)
test.run()
