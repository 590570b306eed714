/** docker with berth-oci as its runtime. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EngineDaemon } from '../lib/engine-daemon.ts'
import { frontOfFile } from '../lib/front.ts'
import { needs } from '../lib/needs.ts'
import { endFront, ociProgram } from '../lib/oci.ts'

needs('root', 'cgroup2', 'overlay', 'program:busybox', 'program:dockerd', 'file:/usr/bin/docker')

const GROUP = `berth-docker-${process.pid}`
const daemon = new EngineDaemon()
const at = (name: string) => join(daemon.directory, name)
const docker = (...args: string[]) =>
  daemon.run(['/usr/bin/docker', '--host', `unix://${at('socket')}`, ...args])
const run = (...args: string[]) => docker('run', '--rm', '--network', 'none', ...args)

test('the daemon starts, with an image', async () => {
  writeFileSync(
    at('daemon.json'),
    JSON.stringify({
      'data-root': at('data'),
      'exec-root': at('exec'),
      pidfile: at('pid'),
      hosts: [`unix://${at('socket')}`],
      iptables: false,
      ip6tables: false,
      bridge: 'none',
      runtimes: { 'berth-oci': { path: ociProgram() } },
      'default-runtime': 'berth-oci',
      'cgroup-parent': `/${GROUP}`,
      'exec-opts': ['native.cgroupdriver=cgroupfs'],
    }),
  )
  await daemon.start(
    ['dockerd', '--config-file', at('daemon.json')],
    async () => (await docker('version')).code === 0,
  )
  execFileSync('tar', ['-C', daemon.rootfs, '-cf', at('box.tar'), '.'])
  assert.is((await docker('import', at('box.tar'), 'box')).code, 0)
})

test('run gives output and exit code, 127 where the program is not there', async () => {
  const { code, stdout, stderr } = await run('box', 'sh', '-c', 'echo out; echo err >&2; exit 3')
  assert.equal({ code, stdout, stderr }, { code: 3, stdout: 'out\n', stderr: 'err\n' })
  const missing = await run('box', 'nothing-there')
  assert.is(missing.code, 127)
  assert.match(missing.stderr, /executable file not found in \$PATH/)
  assert.match((await run('-t', 'box', 'tty')).stdout, /\/dev\/pts\/0/)
})

test('exec, pause, top, stop, start and rm', async () => {
  const script = 'trap "exit 9" TERM; while :; do sleep 0.1; done'
  await docker('run', '-d', '--name', 'back', '--network', 'none', 'box', 'sh', '-c', script)
  assert.is((await docker('exec', 'back', 'sh', '-c', 'exit 4')).code, 4)
  await docker('pause', 'back')
  assert.match((await docker('ps')).stdout, /Paused/)
  await docker('unpause', 'back')
  assert.match((await docker('top', 'back')).stdout, /sh -c trap/)
  await docker('stop', '--time', '20', 'back')
  assert.is((await docker('inspect', '-f', '{{.State.ExitCode}}', 'back')).stdout, '9\n')
  await docker('start', 'back')
  assert.match((await docker('ps')).stdout, /back/)
  assert.is((await docker('rm', '--force', 'back')).code, 0)
})

test("shared namespaces, privileges, read-only roots, docker's own filter", async () => {
  const shared = await docker(
    'run',
    '--rm',
    '--network',
    'host',
    '--pid',
    'host',
    '--privileged',
    'box',
    'echo',
    'ok',
  )
  assert.is(shared.stdout, 'ok\n')
  const readonly = await run(
    '--read-only',
    '--cap-drop',
    'ALL',
    'box',
    'sh',
    '-c',
    'echo x >/x; grep -E "CapEff|Seccomp:" /proc/self/status',
  )
  assert.match(readonly.stderr, /Read-only/)
  assert.match(readonly.stdout, /CapEff:\t0{16}\nSeccomp:\t2/)
})

test('nothing is left behind', async () => {
  const front = frontOfFile()
  if (front) await endFront(front)
  await daemon.destroy([GROUP])
})
test.run()
