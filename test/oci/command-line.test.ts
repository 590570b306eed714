/** berth-oci's command line, whatever an engine or a person writes; and what a command must not do to others. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()

test('the cgroup that another container has taken since is left to it', async () => {
  const share = (name: string) =>
    oci.bundle(name, 'exec sleep 1000', (spec) => {
      spec.linux.cgroupsPath = String(spec.linux.cgroupsPath).replace(/[^/]+$/, 'shared')
    })
  for (const name of ['first', 'second']) {
    share(name)
    const { code, stderr } = await oci.create(name)
    assert.is(code, 0, stderr)
    await oci.ok(['start', name])
    if (name === 'second') continue
    await oci.ok(['kill', name, 'KILL'])
    await eventually('it is stopped', async () => (await oci.status(name)) === 'stopped')
  }
  await oci.ok(['kill', '--all', 'first', 'KILL'])
  assert.is(await oci.ok(['ps', '--format', 'json', 'first']), '[]\n')
  await oci.ok(['delete', '--force', 'first'])
  assert.is(await oci.status('second'), 'running')
  const { pid } = JSON.parse(await oci.ok(['state', 'second']))
  assert.is(await oci.ok(['ps', '--format', 'json', 'second']), `[${pid}]\n`)
  await oci.ok(['delete', '--force', 'second'])
  assert.not.ok(existsSync(oci.cgroup('shared')))
})

test("the program's words are its own, whatever they look like", async () => {
  oci.bundle('words', 'exec sleep 1000')
  await oci.create('words', ['--no-new-keyring=false', '--no-pivot=false'])
  await oci.ok(['-debug=false', 'start', 'words'])
  const words = ['--debug=true', '--tty=false', '-d', '--', '--force=true']
  assert.is(
    await oci.ok(['exec', '--tty=false', '--cwd', '/', 'words', 'echo', ...words]),
    `${words.join(' ')}\n`,
  )
  await oci.refused(['ps', 'words', '--all=true'], /ps --all=true/)
  const { code, stderr } = await oci.run(['delete', 'exec'])
  assert.is(code, 1, stderr)
  await oci.ok(['delete', '-force=true', 'words'])
})

test('a further process of another user has its own HOME', async () => {
  const bundle = oci.bundle('home', 'exec sleep 1000')
  mkdirSync(join(bundle, 'rootfs/etc'))
  writeFileSync(join(bundle, 'rootfs/etc/passwd'), 'root:x:0:0::/root:/bin/sh\nu:x:7:7::/home/u:\n')
  await oci.create('home')
  await oci.ok(['start', 'home'])
  const homeOf = (...user: string[]) => oci.ok(['exec', ...user, 'home', 'sh', '-c', 'echo $HOME'])
  assert.is(await homeOf(), '/root\n')
  assert.is(await homeOf('--user', '7:7'), '/home/u\n')
  // Who leaves the user out is root, and an empty HOME is none.
  const file = join(bundle, 'process.json')
  const args = ['sh', '-c', 'echo $HOME']
  for (const env of [undefined, ['HOME='], ['HOME=/x', 'HOME=']]) {
    writeFileSync(file, JSON.stringify({ args, cwd: '/', ...(env ? { env } : {}) }))
    assert.is(await oci.ok(['exec', '--process', file, 'home']), '/root\n')
  }
  writeFileSync(file, JSON.stringify({ args, cwd: '/', env: ['HOME=/x'] }))
  assert.is(await oci.ok(['exec', '--process', file, 'home']), '/x\n')
  await oci.ok(['delete', '--force', 'home'])
})

test('a capability added to a further process is ambient where the configuration has it as inheritable', async () => {
  oci.bundle('ambient', 'exec sleep 1000', (spec) => {
    const own = ['CAP_CHOWN', 'CAP_KILL']
    Object.assign(spec.process, {
      capabilities: { bounding: own, permitted: [], effective: [], inheritable: ['CAP_CHOWN'] },
    })
  })
  await oci.create('ambient')
  await oci.ok(['start', 'ambient'])
  const added = ['--cap', 'CAP_CHOWN', '--cap', 'CAP_KILL', '--user', '7:7']
  const status = await oci.ok(['exec', ...added, 'ambient', 'cat', '/proc/self/status'])
  assert.match(status, /CapEff:\t0{15}1\n[\s\S]*CapAmb:\t0{15}1\n/)
  await oci.ok(['delete', '--force', 'ambient'])
})

test('ps of processes with long arguments; --debug tells more', async () => {
  // Forks of the shell have its arguments.
  const forks = '(sleep 1000; true) & '.repeat(12)
  oci.bundle('long', `${forks}echo forked; wait; true ${'x'.repeat(100_000)}`)
  await oci.create('long')
  await oci.ok(['start', 'long'])
  await eventually('all are there', () => oci.output('long') === 'forked\n')
  const table = await oci.ok(['ps', 'long', '-ww', '-e', '-o', 'pid,args'])
  assert.ok(table.length > 1024 * 1024, String(table.length))
  const file = join(oci.directory, 'long.log')
  await oci.ok(['--debug', '--log', file, 'state', 'long'])
  assert.match(readFileSync(file, 'utf8'), /level=debug msg="berth-oci .*state long"/)
  await oci.run(['--debug', '--log', file, 'start', 'long'])
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  assert.match(lines.at(-2) ?? '', /level=debug msg=.*FAILED_PRECONDITION/)
  assert.match(lines.at(-1) ?? '', /level=error/)
  await oci.ok(['delete', '--force', 'long'])
})

test('nothing is left behind', nothingIsLeft)
test.run()
