/** `berth run --userns`: root inside is nobody outside, and files keep their owners. */
import { chownSync, lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'userns')

const { berth, nothingIsLeft } = berthOfFile()
const hello = (options: string[], ...command: string[]) => [
  'run',
  '--rm',
  '--net',
  'none',
  ...options,
  'hello',
  ...command,
]
const ok = (options: string[], ...command: string[]) => berth.ok(hello(options, ...command))
const FIXED = ['--userns', '200000:300000:65536']

test('UID:GID:SIZE is the map', async () => {
  assert.match(await ok(FIXED, 'cat', '/proc/self/uid_map'), /^\s*0\s+200000\s+65536$/)
  assert.match(await ok(FIXED, 'cat', '/proc/self/gid_map'), /^\s*0\s+300000\s+65536$/)
})

test('auto gives each container a range of its own, and gives it back', async () => {
  const first = async (name: string) => {
    await berth.ok([
      'run',
      '-d',
      '--net',
      'none',
      '--name',
      name,
      '--userns',
      'auto',
      'hello',
      'sleep',
    ])
    const text = await berth.ok(['exec', name, 'cat', '/proc/self/uid_map'])
    return text.trim().split(/\s+/).map(Number)
  }
  const one = await first('one')
  const two = await first('two')
  assert.is(one[0], 0)
  assert.is(one[2], 65536)
  assert.ok(Math.abs((one[1] ?? 0) - (two[1] ?? 0)) >= 65536)
  await berth.ok(['rm', '-f', 'one'])
  assert.equal(await first('three'), one)
  await berth.ok(['rm', '-f', 'two', 'three'])
})

test('the image’s files have the owners that they have without', async () => {
  assert.match(
    await ok(FIXED, 'probe', 'stat', '/etc/passwd', '/home/user', '/bin/probe'),
    /passwd file 0644 0:0 .*\n\/home\/user directory 0755 1000:1000 .*\n\/bin\/probe file 0755 0:0/,
  )
  await ok(FIXED, 'probe', 'write-file', '/etc/passwd', 'x')
  await ok([...FIXED, '-u', 'user'], 'probe', 'write-file', '/home/user/x', 'x')
})

test('the first process is the mapped user on the host', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'mapped', ...FIXED, 'hello', 'sleep'])
  const [{ State }] = JSON.parse(await berth.ok(['inspect', 'mapped']))
  const { uid, gid } = statSync(`/proc/${State.Pid}/task/${State.Pid}`)
  assert.equal([uid, gid], [200000, 300000])
  assert.match(await berth.ok(['exec', 'mapped', 'id']), /^uid=0 gid=0/)
  assert.match(await berth.ok(['exec', '-u', '7', 'mapped', 'id']), /^uid=7/)
  await berth.ok(['rm', '-f', 'mapped'])
})

test('a volume’s files are the container’s, with the ids of the inside on the disk', async () => {
  await ok([...FIXED, '-v', 'data:/data'], 'probe', 'write-file', '/data/x', 'mine')
  assert.match(await ok([...FIXED, '-v', 'data:/data'], 'probe', 'stat', '/data/x'), / 0:0 /)
  assert.match(
    await ok(['--userns', 'auto', '-v', 'data:/data'], 'probe', 'stat', '/data/x'),
    / 0:0 /,
  )
  assert.is(await ok(['-v', 'data:/data'], 'cat', '/data/x'), 'mine')
  assert.match(await ok(['-v', 'data:/data'], 'probe', 'stat', '/data/x'), / 0:0 /)
  await berth.ok(['volume', 'rm', 'data'])
})

test('a bind mount shows the host’s owners as nobody, and with idmap as they are', async () => {
  const path = join(berth.directory, 'bind')
  mkdirSync(path)
  writeFileSync(join(path, 'f'), 'x')
  chownSync(join(path, 'f'), 1000, 1000)
  assert.match(await ok([...FIXED, '-v', `${path}:/m`], 'probe', 'stat', '/m/f'), / 65534:65534 /)
  assert.match(
    await ok([...FIXED, '-v', `${path}:/m:idmap`], 'probe', 'stat', '/m/f'),
    / 1000:1000 /,
  )
  await ok([...FIXED, '-v', `${path}:/m:idmap`], 'probe', 'write-file', '/m/new', 'x')
  assert.is(lstatSync(join(path, 'new')).uid, 0)
})

test('root inside has every right over its own namespaces and none over the host', async () => {
  const { code, stderr } = await berth.run(
    hello([...FIXED, '-v', '/etc:/host'], 'probe', 'write-file', '/host/berth-escaped', 'x'),
  )
  assert.is(code, 1)
  assert.match(stderr, /EACCES/)
  await ok(
    [...FIXED, '--cap-add', 'SYS_ADMIN', '--security-opt', 'seccomp=unconfined'],
    'probe',
    'mount',
    'none',
    '/tmp',
    'tmpfs',
  )
})

test('masked files, devices and /sys are as without a user namespace', async () => {
  assert.is(await ok(FIXED, 'cat', '/proc/keys'), '')
  assert.match(await ok(FIXED, 'probe', 'open', '/dev/null', 'rw'), /opened/)
  assert.match(await ok(FIXED, 'ls', '/sys'), /fs/)
})

test('a map with one id runs root alone', async () => {
  assert.match(await ok(['--userns', '5000:5000:1'], 'id'), /^uid=0 gid=0/)
  await berth.refused(hello(['--userns', '5000:5000:1', '-u', '1000:0'], 'id'), /1000/)
})

for (const bad of ['nonsense', '1:2', '0:0:0', '4294967290:0:100', '-1:0:1']) {
  test(`--userns ${bad} is refused`, () =>
    berth.refused(hello([`--userns=${bad}`], 'true'), /userns/))
}

test('cp into a running container belongs to its root, and comes out as ours', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'copy', ...FIXED, 'hello', 'sleep'])
  const file = join(berth.directory, 'file')
  writeFileSync(file, 'content')
  await berth.ok(['cp', file, 'copy:/tmp/file'])
  assert.match(await berth.ok(['exec', 'copy', 'probe', 'stat', '/tmp/file']), / 0:0 /)
  await berth.ok(['cp', 'copy:/etc/group', join(berth.directory, 'group')])
  await berth.ok(['rm', '-f', 'copy'])
})

test('--privileged is privileged in its user namespace only', async () => {
  assert.match(await ok([...FIXED, '--privileged'], 'probe', 'caps'), /effective .*SYS_ADMIN/)
  await berth.refused(hello([...FIXED, '--cgroupns', 'host'], 'true'), /--cgroupns host.*--userns/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
