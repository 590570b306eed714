/** containerd with berth-oci as the BinaryName of its runc shim. The shim is the parent of the containers. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EngineDaemon } from '../lib/engine-daemon.ts'
import { eventually } from '../lib/eventually.ts'
import { frontOfFile } from '../lib/front.ts'
import { needs } from '../lib/needs.ts'
import { endFront, ociProgram } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:containerd', 'program:ctr')

/** containerd's namespace, and the cgroup of its containers. */
const NAMESPACE = `berth-test-${process.pid}`
const daemon = new EngineDaemon()
const at = (name: string) => join(daemon.directory, name)
const ctr = ['ctr', '--address', at('socket'), '--namespace', NAMESPACE]
const runtime = ['--runc-binary', ociProgram(), '--fifo-dir', at('fifo')]
const run = (...args: string[]) => daemon.run([...ctr, 'run', ...runtime, '--rootfs', ...args])
const task = (...args: string[]) => daemon.run([...ctr, 'task', ...args])

test('the daemon starts', async () => {
  writeFileSync(
    at('config.toml'),
    `version = 2
root = "${at('root')}"
state = "${at('state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${at('socket')}"
[ttrpc]
address = "${at('ttrpc')}"
`,
  )
  await daemon.start(
    ['containerd', '--config', at('config.toml')],
    async () => (await daemon.run([...ctr, 'version'])).code === 0,
  )
})

test('run gives output and exit code; a program that is not there is told at create', async () => {
  const { code, stdout } = await run('--rm', daemon.rootfs, 'one', 'sh', '-c', 'echo out; exit 3')
  assert.equal({ code, stdout }, { code: 3, stdout: 'out\n' })
  const missing = await run('--rm', daemon.rootfs, 'none', 'nothing-there')
  assert.match(missing.stderr, /create failed.*executable file not found in \$PATH/)
})

test('exec, pause, resume, metrics, processes, kill and delete of a task', async () => {
  assert.is((await run('--detach', daemon.rootfs, 'two', 'sleep', '1000')).code, 0)
  const exec = await task(
    'exec',
    '--exec-id',
    'e',
    '--fifo-dir',
    at('fifo'),
    'two',
    'sh',
    '-c',
    'echo in; exit 4',
  )
  assert.equal([exec.code, exec.stdout], [4, 'in\n'])
  await task('pause', 'two')
  assert.match((await task('list')).stdout, /two +\d+ +PAUSED/)
  await task('resume', 'two')
  assert.match((await task('list')).stdout, /two +\d+ +RUNNING/)
  assert.match((await task('metrics', 'two')).stdout, /cpu\.usage_usec +\d+/)
  assert.match((await task('ps', 'two')).stdout, /\d+/)
  assert.is((await task('kill', '--signal', 'KILL', 'two')).code, 0)
  await eventually('it has stopped', async () => /STOPPED/.test((await task('list')).stdout))
  await task('delete', 'two')
  await daemon.ok([...ctr, 'container', 'delete', 'two'])
  assert.is(await daemon.ok([...ctr, 'container', 'list', '--quiet']), '')
})

test('nothing is left behind', async () => {
  const front = frontOfFile()
  if (front) await endFront(front)
  await daemon.destroy([NAMESPACE])
})
test.run()
