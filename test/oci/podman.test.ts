/** podman with berth-oci as its runtime: what its users do. conmon is the parent of the containers, and tells how they end. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cgroupRoot, needing, needs } from '../lib/needs.ts'
import { BOX, Podman } from '../lib/podman.ts'

needs('root', 'cgroup2', 'overlay', 'program:busybox', 'program:podman', 'program:conmon')

const podman = new Podman()
const groups = join(cgroupRoot(), 'libpod_parent')
/** The file that podman looks for, for --init and for the infrastructure container of a pod. */
const CATATONIT = 'file:/usr/libexec/podman/catatonit'

test('an image is imported', () => podman.prepare())

test('run gives the exit code of the program, 127 and 126 where it cannot be run', async () => {
  const { code, stdout, stderr } = await podman.run([
    'run',
    '--rm',
    BOX,
    'sh',
    '-c',
    'echo out; echo err >&2; exit 3',
  ])
  assert.equal({ code, stdout, stderr }, { code: 3, stdout: 'out\n', stderr: 'err\n' })
  const missing = await podman.run(['run', '--rm', BOX, 'nothing-there'])
  assert.is(missing.code, 127)
  assert.match(missing.stderr, /executable file not found in \$PATH/)
  assert.is((await podman.run(['run', '--rm', BOX, '/bin/'])).code, 126)
})

test('a container in the background: exec, pause, top, logs, stop, start, rm', async () => {
  await podman.ok([
    'run',
    '-d',
    '--name',
    'back',
    BOX,
    'sh',
    '-c',
    'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done',
  ])
  assert.is((await podman.run(['exec', 'back', 'sh', '-c', 'exit 4'])).code, 4)
  assert.is((await podman.run(['exec', 'back', 'nothing-there'])).code, 127)
  assert.is(
    await podman.ok([
      'exec',
      '-u',
      '5:6',
      '-w',
      '/bin',
      '-e',
      'X=1',
      'back',
      'sh',
      '-c',
      'pwd; echo $X; id -u',
    ]),
    '/bin\n1\n5',
  )
  await podman.ok(['pause', 'back'])
  assert.is(await podman.ok(['inspect', '-f', '{{.State.Status}}', 'back']), 'paused')
  await podman.ok(['unpause', 'back'])
  assert.match(await podman.ok(['top', 'back']), /sh -c trap/)
  await podman.ok(['stop', '--time', '20', 'back'])
  assert.is(await podman.ok(['inspect', '-f', '{{.State.ExitCode}}', 'back']), '9')
  await podman.ok(['start', 'back'])
  assert.is(await podman.ok(['logs', 'back']), 'up\nup')
  await podman.ok(['kill', 'back'])
  assert.is(await podman.ok(['wait', 'back']), '137')
  await podman.ok(['rm', 'back'])
})

test('-t gives a terminal, in run and in exec', async () => {
  assert.match(
    await podman.ok(['run', '--rm', '-t', BOX, 'sh', '-c', 'tty; test -t 1 && echo yes']),
    /\/dev\/pts\/0\r?\nyes/,
  )
  await podman.ok(['run', '-d', '--name', 'term', BOX, 'sleep', '1000'])
  assert.match(await podman.ok(['exec', '-t', 'term', 'tty']), /\/dev\/pts\/0/)
  await podman.ok(['rm', '--force', '--time', '0', 'term'])
})

test('user namespaces, read-only roots, volumes, shared namespaces, privileges', async () => {
  const mapped = await podman.ok([
    'run',
    '--rm',
    '--uidmap',
    '0:100000:65536',
    BOX,
    'sh',
    '-c',
    'cat /proc/self/uid_map; stat -c %u /bin; echo x >/new && echo written',
  ])
  assert.match(mapped, /^ +0 +100000 +65536\n0\nwritten$/)
  const readonly = await podman.run([
    'run',
    '--rm',
    '--read-only',
    '--tmpfs',
    '/scratch',
    '-v',
    `${podman.directory}:/v:ro`,
    BOX,
    'sh',
    '-c',
    'ls /v; echo x >/scratch/a && echo kept; echo x >/v/a || echo x >/a',
  ])
  assert.match(readonly.stdout, /storage\.conf\n[\s\S]*kept/)
  assert.match(readonly.stderr, /\/v\/a: Read-only[\s\S]*\/a: Read-only/)
  assert.is(
    await podman.ok([
      'run',
      '--rm',
      '--pid',
      'host',
      '--ipc',
      'host',
      '--uts',
      'host',
      '--network',
      'host',
      BOX,
      'echo',
      'shared',
    ]),
    'shared',
  )
  assert.match(
    await podman.ok(['run', '--rm', '--privileged', BOX, 'grep', 'Seccomp:', '/proc/self/status']),
    /\t0$/,
  )
  assert.match(
    await podman.ok(['run', '--rm', BOX, 'grep', 'Seccomp:', '/proc/self/status']),
    /\t2$/,
  )
})

test('a healthcheck runs in the container', async () => {
  await podman.run([
    'run',
    '-d',
    '--name',
    'well',
    '--health-cmd',
    'test -e /bin/sh',
    '--health-interval',
    'disable',
    BOX,
    'sleep',
    '1000',
  ])
  await podman.ok(['healthcheck', 'run', 'well'])
  await podman.run(['rm', '--force', '--time', '0', 'well'])
})

needing(test, CATATONIT)('--init, and a pod', async () => {
  assert.match(
    await podman.ok(['run', '--rm', '--init', BOX, 'ps', '-o', 'pid,args']),
    /1 \/run\/podman-init -- ps/,
  )
  // The cgroup that podman 4.3 makes for a pod, without systemd, denies every device; with runc, too.
  await podman.ok([
    'pod',
    'create',
    '--name',
    'pod',
    '--share-parent=false',
    '--share',
    'ipc,uts,pid',
  ])
  const hostname = 'cat /proc/sys/kernel/hostname; ps -o args'
  const seen = await podman.ok(['run', '--rm', '--pod', 'pod', BOX, 'sh', '-c', hostname])
  assert.match(seen, /^pod\n[\s\S]*catatonit/, 'it shares the names and the processes of the pod')
  await podman.ok(['pod', 'rm', '--force', '--time', '0', 'pod'])
})

test('nothing is left behind', async () => {
  const left = existsSync(groups)
    ? readdirSync(groups).filter((name) => /^libpod-[0-9a-f]{64}$/.test(name))
    : []
  assert.equal(left, [])
  await podman.destroy()
  assert.not.ok(existsSync(podman.directory))
})
test.run()
