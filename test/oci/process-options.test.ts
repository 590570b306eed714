/** berth-oci by itself: options that say where a process is, how its root is entered, and who is told of it. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const { oci, nothingIsLeft } = ociOfFile()

const pidOf = async (id: string): Promise<number> =>
  (JSON.parse(await oci.ok(['state', id])) as { pid: number }).pid

/**
 * Listens as an engine does, runs the words, and says what came: the word, and whom the pidfd is of, which SIGKILL by it ends. Nobody waits for what holds the
 * words' own stdio: a wrong pidfd would leave that running.
 */
const TAKER = `
import array, os, select, signal, socket, subprocess, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(1); server.settimeout(60)
said = open(sys.argv[1] + '.err', 'w')
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
assert child.wait(60) == 0, open(said.name).read()
connection, _ = server.accept()
word, ancillary, _, _ = connection.recvmsg(64, socket.CMSG_SPACE(4))
(level, kind, data), = ancillary
assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
pidfd, = array.array('i', data)
pid, = [line.split()[1] for line in open(f'/proc/self/fdinfo/{pidfd}') if line.startswith('Pid:')]
signal.pidfd_send_signal(pidfd, signal.SIGKILL)
assert select.select([pidfd], [], [], 60)[0]
print(word.decode(), pid)
`
const taken = (socket: string, args: readonly string[]): string =>
  execFileSync('python3', ['-c', TAKER, socket, ...oci.command, ...args], {
    cwd: oci.directory,
    encoding: 'utf8',
  }).trim()

const withUsers: Patch = (spec) => {
  const { namespaces } = spec.linux as { namespaces?: object[] }
  Object.assign(spec.linux, {
    namespaces: [...(namespaces ?? []), { type: 'user' }],
    uidMappings: [{ containerID: 0, hostID: 0, size: 65536 }],
    gidMappings: [{ containerID: 0, hostID: 0, size: 65536 }],
  })
}

test('--pidfd-socket gets a pidfd of the process, of create, run and exec', async () => {
  const bundle = oci.bundle('pidfd', 'exec sleep 1000')
  const file = join(bundle, 'pid')
  const told = (socket: string): string[] => ['--pid-file', file, '--pidfd-socket', socket]
  const create = ['create', '--bundle', bundle]
  // With a user namespace the first process is the second that is cloned.
  for (const [name, patch] of [['plain'], ['users', withUsers]] as const) {
    oci.configure(bundle, 'pidfd', 'exec sleep 1000', patch)
    const created = taken(`create-${name}`, [...create, ...told(`create-${name}`), 'pidfd'])
    assert.is(created, `standard ${readFileSync(file, 'utf8')}`)
    await eventually('it is stopped', async () => (await oci.status('pidfd')) === 'stopped')
    await oci.ok(['delete', 'pidfd'])
  }
  oci.configure(bundle, 'pidfd', 'exec sleep 1000')
  const run = taken('run', ['run', '--detach', '--bundle', bundle, ...told('run'), 'pidfd'])
  assert.is(run, `standard ${readFileSync(file, 'utf8')}`)
  await oci.ok(['delete', '--force', 'pidfd'])

  await oci.create('pidfd')
  await oci.ok(['start', 'pidfd'])
  const exec = ['exec', '--detach', ...told('exec'), 'pidfd', 'sleep', '1000']
  assert.is(taken('exec', exec), `setns ${readFileSync(file, 'utf8')}`)
  assert.is(await oci.status('pidfd'), 'running')

  // Nothing runs where nobody listens.
  const nobody = join(oci.directory, 'nobody')
  const proof = ['pidfd', 'touch', '/dev/shm/proof']
  await oci.refused(['exec', '--pidfd-socket', nobody, ...proof], /pidfd socket.*No such file/)
  assert.is((await oci.run(['exec', 'pidfd', 'test', '-e', '/dev/shm/proof'])).code, 1)
  await oci.ok(['delete', '--force', 'pidfd'])
  await oci.refused([...create, '--pidfd-socket', nobody, 'pidfd'], /pidfd socket.*No such file/)
  assert.not.ok(existsSync(oci.cgroup('pidfd')))
})

test('exec --cgroup puts the process into a cgroup below that of the container, and nowhere else', async () => {
  oci.bundle('groups', 'exec sleep 1000')
  await oci.create('groups')
  await oci.ok(['start', 'groups'])
  mkdirSync(join(oci.cgroup('groups'), 'one/two'), { recursive: true })
  const where = (path: string): Promise<string> =>
    oci.ok(['exec', '--cgroup', path, 'groups', 'cat', '/proc/self/cgroup'])
  assert.match(await where('/one/two'), /^0::\/one\/two$/m)
  assert.match(await where('one//./two/'), /^0::\/one\/two$/m)
  assert.match(await where('one'), /^0::\/one$/m)
  assert.match(await where('/'), /^0::\/$/m)
  for (const [path, message] of [
    ['/three', /--cgroup: No such file or directory/],
    ['one/cgroup.procs', /--cgroup: Not a directory/],
    ['/../groups', /no path below the container's cgroup/],
    ['one/../..', /no path below the container's cgroup/],
    ['memory:/one', /no path below the container's cgroup/],
  ] as const) {
    await oci.refused(['exec', '--cgroup', path, 'groups', 'true'], message)
  }
  await oci.ok(['delete', '--force', 'groups'])
})

/** Takes the container's root off, as who has CAP_SYS_ADMIN in it could do, and says where there is a mount then. */
const UNCOVER = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
proc = os.open('/proc', os.O_PATH)
ns = os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY)
CLONE_NEWNS, MNT_DETACH = 0x20000, 2
assert libc.setns(ns, CLONE_NEWNS) == 0
assert libc.umount2(b'/', MNT_DETACH) == 0
assert libc.setns(ns, CLONE_NEWNS) == 0
mounts = os.open('self/mountinfo', os.O_RDONLY, dir_fd=proc)
text = b''.join(iter(lambda: os.read(mounts, 4096), b''))
for line in text.splitlines(): print(line.split(b' ')[4].decode())
`

test('--no-pivot: the program has its root, and of the host nothing but its root is left below', async () => {
  const script =
    'cat /proc/self/mountinfo; ls -d /proc/1/root/*/; echo end; while :; do sleep 1000; done'
  const points = (text: string): string[] =>
    text.split('\n').map((line) => line.split(' ')[4] ?? line)
  const seen = async (id: string, args: readonly string[] = []) => {
    assert.is((await oci.create(id, args)).code, 0, oci.output(id))
    await oci.ok(['start', id])
    await eventually(`${id} has written`, () => oci.output(id).endsWith('end\n'))
    const look = ['exec', id, 'sh', '-c', 'ls -d /* /../*; cat /proc/self/mountinfo']
    return { program: points(oci.output(id)), exec: points(await oci.ok(look)) }
  }
  // Where there are such hooks the root is elsewhere until they have run.
  const hooked: Patch = (spec) => {
    spec.hooks = { createContainer: [{ path: '/bin/busybox', args: ['true'] }] }
  }
  oci.bundle('pivot', script)
  const bundle = oci.bundle('cover', script)
  for (const patch of [() => {}, hooked]) {
    for (const id of ['pivot', 'cover']) oci.configure(join(oci.directory, id), id, script, patch)
    assert.equal(await seen('cover', ['--no-pivot']), await seen('pivot'))
    const pid = String(await pidOf('cover'))
    // Who enters its mount namespace has its root.
    const enter = [`--mount=/proc/${pid}/ns/mnt`, '/bin/sh', '-c', 'ls /']
    const names = execFileSync('nsenter', enter, { encoding: 'utf8' }).trim().split('\n')
    assert.equal(names, readdirSync(join(bundle, 'rootfs')).sort())
    // Nor does a user namespace that a program makes itself show what is below: its mounts are locked.
    const unshared = ['unshare', '-Urm', 'sh', '-c', 'echo in; busybox umount -l / && echo off']
    assert.is(
      (await oci.run(['exec', '-u', '1000:1000', 'cover', 'busybox', ...unshared])).stdout,
      'in\n',
    )
    assert.is(execFileSync('python3', ['-c', UNCOVER, pid], { encoding: 'utf8' }), '/\n')
    for (const id of ['pivot', 'cover']) await oci.ok(['delete', '--force', id])
  }
})

test('--no-pivot is refused where the host would stay reachable', async () => {
  const bundle = oci.bundle('refused', 'true', withUsers)
  const create = ['create', '--no-pivot', '--bundle', bundle, 'refused']
  await oci.refused(create, /--no-pivot is not supported with a user namespace/)
  oci.configure(bundle, 'refused', 'true')
  const other = join(oci.directory, 'other-root')
  mkdirSync(other)
  const { status, stderr } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', 'mount --rbind / "$0" && exec chroot "$0" "$@"', other].concat(
      [...oci.command],
      create,
    ),
    { encoding: 'utf8' },
  )
  assert.is(status, 1)
  assert.match(stderr, /--no-pivot needs the root of the mount namespace/)
  assert.not.ok(existsSync(oci.cgroup('refused')))
  await oci.refused(['restore', '--no-pivot', 'refused'], /--no-pivot is not supported/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
