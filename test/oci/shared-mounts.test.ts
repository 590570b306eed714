/** Containers without a mount namespace of their own: their mounts are the host's, below a place of berth's, and end with them; of the host's own none changes. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:mount', 'program:unshare')

const { oci, nothingIsLeft } = ociOfFile()
const STAY = 'exec sleep 1000'
const mount = (...words: string[]): void => void execFileSync('mount', words)

/** The configuration without a mount namespace, changed further. */
const shared =
  (patch: Patch = () => {}): Patch =>
  (spec) => {
    spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'mount')
    patch(spec)
  }

/** A process's mounts: by number and place what is told of each. */
function mounts(pid: number | 'self' = 'self'): Map<string, string> {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n')
  // A number is another mount's when that is gone.
  return new Map(lines.map((line) => [line.split(' ').slice(0, 5).join(' '), line]))
}

const placeIn = (line: string): string => line.split(' ')[4] ?? ''
const usersOwn = (all: Map<string, string>): string[] =>
  [...all.values()]
    .map(placeIn)
    .filter((path) => path.startsWith(oci.directory) && !path.startsWith(`${oci.root}/`))
const ofFile = (pid?: number): string[] =>
  [...mounts(pid).values()].map(placeIn).filter((path) => path.startsWith(oci.directory))

/** Of the mounts that were there before each is as it was; of others only what is at the containers' places, or below. */
function isUntouched(before: Map<string, string>): void {
  const now = mounts()
  for (const [id, line] of before) assert.is(now.get(id) ?? line, line)
  assert.equal(usersOwn(now), usersOwn(before))
}

async function start(id: string, script = STAY, patch?: Patch): Promise<number> {
  const bundle = join(oci.directory, id)
  if (existsSync(bundle)) oci.configure(bundle, id, script, shared(patch))
  else oci.bundle(id, script, shared(patch))
  const { code, stderr } = await oci.create(id)
  assert.is(code, 0, stderr)
  await oci.ok(['start', id])
  return pidOf(id)
}

const pidOf = async (id: string): Promise<number> =>
  (JSON.parse(await oci.ok(['state', id])) as { pid: number }).pid

const remove = async (id: string): Promise<void> => {
  await oci.ok(['delete', '--force', id])
  assert.not(existsSync(join(oci.root, id)))
  assert.equal(ofFile(), [])
}

test('its mount namespace is the host’s, its root its own: read-only, masked, with the mounts of its configuration', async () => {
  const before = mounts()
  const pid = await start('whole')
  assert.is(readlinkSync(`/proc/${pid}/ns/mnt`), readlinkSync('/proc/self/ns/mnt'))
  isUntouched(before)
  const look = (script: string) => oci.run(['exec', 'whole', 'sh', '-c', script])
  const { stdout: seen } = await look(
    'ls -d /proc/1 /dev/null /dev/shm; ls /etc/hostname; cat /proc/1/comm',
  )
  assert.match(seen, /\/dev\/null\n\/dev\/shm\n\/proc\/1\nsleep\n/)
  const inside = (await look('cat /proc/self/mountinfo')).stdout.trim().split('\n').map(placeIn)
  assert.ok(inside.includes('/') && inside.includes('/proc/sys'))
  assert.not.ok(inside.some((path) => path.startsWith(oci.directory)))
  assert.match((await look('echo x >/file')).stderr, /Read-only/)
  assert.match((await look('echo x >/proc/sys/kernel/hostname')).stderr, /Read-only/)
  assert.is((await look('cat /proc/kcore | wc -c')).stdout, '0\n')
  assert.is((await look('cd ../../../..; pwd; ls -d proc')).stdout, '/\nproc\n')
  await remove('whole')
  isUntouched(before)
})

test('exec, ps, pause, resume and kill do with it what they do with others', async () => {
  const before = mounts()
  await start('acts', `sleep 1000 & ${STAY}`)
  const words = ['exec', '--cwd', '/tmp/new', '--user', '1:1', 'acts', 'sh', '-c', 'pwd; id -u']
  assert.match((await oci.run(words)).stderr, /Read-only/)
  assert.is(
    await oci.ok(['exec', '--cwd', '/dev', '--user', '1:1', 'acts', 'sh', '-c', 'pwd; id -u']),
    '/dev\n1\n',
  )
  assert.is((JSON.parse(await oci.ok(['ps', '--format', 'json', 'acts'])) as number[]).length, 2)
  await oci.ok(['pause', 'acts'])
  assert.is(await oci.status('acts'), 'paused')
  await oci.ok(['resume', 'acts'])
  await oci.ok(['kill', '--all', 'acts', 'KILL'])
  await eventually('it is stopped', async () => (await oci.status('acts')) === 'stopped')
  assert.ok(ofFile().length > 0)
  await oci.ok(['delete', 'acts'])
  assert.equal(ofFile(), [])
  isUntouched(before)
})

test('a run to the end, with a terminal of its own, leaves nothing', async () => {
  const before = mounts()
  const bundle = oci.bundle(
    'run',
    'tty; exit 3',
    shared((spec) => Object.assign(spec.process, { terminal: true })),
  )
  const { code, stdout } = await oci.run(['run', '--bundle', bundle, 'run'])
  assert.is(stdout, '/dev/pts/0\r\n')
  assert.is(code, 3)
  assert.equal(ofFile(), [])
  isUntouched(before)
})

test('what the user has mounted below the root is seen, and stays', async () => {
  const bundle = oci.bundle('user', '')
  const own = join(bundle, 'rootfs/own')
  mkdirSync(own)
  mount('-t', 'tmpfs', 'own', own)
  try {
    writeFileSync(join(own, 'file'), 'x')
    const before = mounts()
    oci.configure(bundle, 'user', STAY, shared())
    await oci.create('user')
    assert.is(await oci.ok(['exec', 'user', 'cat', '/own/file']), 'x')
    isUntouched(before)
    await oci.ok(['delete', '--force', 'user'])
    assert.equal(ofFile(), [own])
    assert.is(readFileSync(join(own, 'file'), 'utf8'), 'x')
    isUntouched(before)
  } finally {
    execFileSync('umount', [own])
  }
})

test('of a shared host nothing is handed on, and each container of one root ends alone', async () => {
  mkdirSync(oci.root, { recursive: true })
  mount('--bind', oci.root, oci.root)
  mount('--make-shared', oci.root)
  const peer = spawn('unshare', ['--mount', '--propagation', 'unchanged', 'sleep', '1000'])
  try {
    const pid = peer.pid ?? 0
    await eventually(
      'it is in its own',
      () => readlinkSync(`/proc/${pid}/ns/mnt`) !== readlinkSync('/proc/self/ns/mnt'),
    )
    const before = mounts()
    for (const id of ['one', 'two']) {
      await start(id, STAY, (spec) =>
        Object.assign(spec, { root: { path: join(oci.directory, 'one/rootfs') } }),
      )
    }
    const theirs = ofFile(pid)
    assert.equal(theirs, [oci.root, ...['one', 'two'].map((id) => join(oci.root, id, 'root'))])
    isUntouched(before)
    oci.bundle('binds', STAY, (spec) =>
      spec.mounts?.push({
        destination: '/bound',
        type: 'bind',
        source: oci.root,
        options: ['rbind', 'rslave'],
      }),
    )
    await oci.create('binds')
    await oci.ok(['delete', '--force', 'one'])
    // Nor in anything that others have bound.
    assert.not.match(await oci.ok(['exec', 'binds', 'cat', '/proc/self/mountinfo']), /bound\/one/)
    assert.is(await oci.status('two'), 'running')
    assert.is(await oci.ok(['exec', 'two', 'cat', '/proc/1/comm']), 'sleep\n')
    await oci.ok(['delete', '--force', 'two'])
    await oci.ok(['delete', '--force', 'binds'])
    assert.equal(ofFile(pid), [oci.root])
    assert.equal(ofFile(), [oci.root])
    isUntouched(before)
  } finally {
    peer.kill('SIGKILL')
    execFileSync('umount', ['--lazy', oci.root])
  }
})

test('a delete from another mount namespace takes the mounts of this one, too', async () => {
  const before = mounts()
  const host = join(oci.directory, 'source')
  mkdirSync(host)
  writeFileSync(join(host, 'file'), 'x')
  await start('afar', STAY, (spec) =>
    spec.mounts?.push({ destination: '/source', type: 'bind', source: host, options: ['bind'] }),
  )
  // With a copy of the mounts, and where none of them is seen.
  const [node, ...first] = oci.command
  execFileSync('unshare', ['--mount', node, ...first, 'delete', '--force', 'afar'])
  assert.equal(ofFile(), [])
  assert.is(readFileSync(join(host, 'file'), 'utf8'), 'x')
  await start('afar', STAY, (spec) =>
    spec.mounts?.push({ destination: '/source', type: 'bind', source: host, options: ['bind'] }),
  )
  const script = 'umount -l "$0/afar/root"; umount -l "$0/afar/root"; exec "$@"'
  execFileSync('unshare', [
    '--mount',
    'sh',
    '-c',
    script,
    oci.root,
    node,
    ...first,
    'delete',
    '--force',
    'afar',
  ])
  assert.equal(ofFile(), [])
  assert.is(readFileSync(join(host, 'file'), 'utf8'), 'x')
  assert.ok(existsSync(join(oci.directory, 'afar/rootfs/bin')))
  isUntouched(before)
})

test('hooks of all kinds run, and one that fails leaves nothing', async () => {
  const before = mounts()
  const kinds = [
    'prestart',
    'createRuntime',
    'createContainer',
    'startContainer',
    'poststart',
    'poststop',
  ]
  const log = join(oci.directory, 'hooks.log')
  const hook = (kind: string) => [{ path: '/bin/sh', args: ['sh', '-c', `echo ${kind} >>${log}`] }]
  await start('hooks', STAY, (spec) => {
    spec.hooks = Object.fromEntries(kinds.map((kind) => [kind, hook(kind)]))
    spec.mounts?.push({
      destination: oci.directory,
      type: 'bind',
      source: oci.directory,
      options: ['rbind'],
    })
    spec.root = { path: 'rootfs' }
  })
  await remove('hooks')
  assert.equal(readFileSync(log, 'utf8').trim().split('\n'), kinds)
  const bundle = oci.bundle('fails', STAY)
  for (const kind of ['createRuntime', 'createContainer']) {
    oci.configure(
      bundle,
      'fails',
      STAY,
      shared((spec) => Object.assign(spec, { hooks: { [kind]: [{ path: '/bin/false' }] } })),
    )
    await oci.refused(['create', '--bundle', bundle, 'fails'], new RegExp(`${kind} hook`))
    assert.equal(ofFile(), [])
    assert.not(existsSync(join(oci.root, 'fails')))
  }
  isUntouched(before)
})

test('with a joined PID namespace, clocks and mounts of other ids', async () => {
  const before = mounts()
  const pid = await start('owner')
  const source = join(oci.directory, 'mapped')
  mkdirSync(source)
  await start('guest', STAY, (spec) => {
    const others = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'pid')
    const path = `/proc/${pid}/ns/pid`
    spec.linux.namespaces = [...others, { type: 'pid', path }, { type: 'time' }]
    Object.assign(spec.linux, { timeOffsets: { boottime: { secs: 5, nanosecs: 0 } } })
    const map = [{ containerID: 0, hostID: 1000, size: 1000 }]
    spec.mounts?.push({
      destination: '/mapped',
      type: 'bind',
      source,
      options: ['bind', 'idmap'],
      uidMappings: map,
      gidMappings: map,
    })
  })
  isUntouched(before)
  assert.match(await oci.ok(['exec', 'guest', 'stat', '-c', '%u', '/mapped']), /^(65534|1000)\n$/)
  assert.is(await oci.ok(['exec', 'guest', 'cat', '/proc/1/comm']), 'sleep\n')
  await oci.ok(['delete', '--force', 'guest'])
  await remove('owner')
  isUntouched(before)
})

test('a root that is to be shared or a slave is that, and no mount of the host', async () => {
  const before = mounts()
  for (const rootfsPropagation of ['slave', 'rshared', 'private']) {
    await start('propagation', STAY, (spec) => Object.assign(spec.linux, { rootfsPropagation }))
    isUntouched(before)
    await remove('propagation')
  }
  isUntouched(before)
})

test('what cannot be had is refused by its name', async () => {
  const map = [{ containerID: 0, hostID: 100000, size: 65536 }]
  const bundle = oci.bundle(
    'not',
    STAY,
    shared((spec) => {
      spec.linux.namespaces?.push({ type: 'user' })
      Object.assign(spec.linux, { uidMappings: map, gidMappings: map })
    }),
  )
  await oci.refused(
    ['create', '--bundle', bundle, 'not'],
    /linux\.namespaces: a user namespace without a mount namespace/,
  )
  oci.configure(
    bundle,
    'not',
    STAY,
    shared((spec) =>
      spec.mounts?.push({
        destination: '/l',
        type: 'overlay',
        options: ['lowerdir+=/etc', 'lowerdir+=/usr'],
      }),
    ),
  )
  await oci.refused(
    ['create', '--bundle', bundle, 'not'],
    /mounts\[\d\]: layers without a mount namespace/,
  )
  assert.not(existsSync(join(oci.root, 'not')))
  await start('criu')
  await oci.refused(
    ['checkpoint', '--image-path', join(oci.directory, 'images'), 'criu'],
    /linux\.namespaces: checkpoint/,
  )
  await remove('criu')
})

test('nothing is left behind', nothingIsLeft)
test.run()
