/** Mounts, volumes and devices of `berth run`. */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { probeImage, writeOciArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

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
const probe = (options: string[], ...command: string[]) => ok(options, 'probe', ...command)
const fails = async (says: RegExp, options: string[], ...command: string[]) => {
  const { code, stderr } = await berth.run(hello(options, 'probe', ...command))
  assert.is(code, 1, stderr)
  assert.match(stderr, says)
}

/** A directory with a file `f` in it. */
function source(name: string): string {
  const path = join(berth.directory, name)
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, 'f'), 'host\n')
  return path
}

test('the root takes changes and loses them with the container', async () => {
  await probe([], 'write-file', '/new', 'x')
  await fails(/ENOENT/, [], 'cat', '/new')
})

test('--read-only: the image cannot be written to, /dev/shm and a tmpfs can', async () => {
  await fails(/EROFS/, ['--read-only'], 'write-file', '/new', 'x')
  await fails(/EROFS/, ['--read-only'], 'write-file', '/etc/passwd', 'x')
  await probe(['--read-only'], 'write-file', '/dev/shm/x', 'x')
  await probe(['--read-only', '--tmpfs', '/run'], 'write-file', '/run/x', 'x')
})

test('--tmpfs has its options and docker’s defaults', async () => {
  const [line = ''] = (
    await ok(['--tmpfs', '/scratch:size=1m,mode=700,exec'], 'cat', '/proc/self/mountinfo')
  )
    .split('\n')
    .filter((each) => each.includes(' /scratch '))
  assert.match(line, / rw,nosuid,nodev,relatime .*tmpfs.*size=1024k,mode=700/)
  await fails(/ENOSPC/, ['--tmpfs', '/scratch:size=1m'], 'fill', '/scratch/x', '2000000')
  assert.match(await probe(['--tmpfs', '/scratch'], 'stat', '/scratch'), /directory 1777/)
})

test('--tmpfs over a directory of the image takes what was there along', async () => {
  assert.match(await ok(['--tmpfs', '/etc'], 'cat', '/etc/passwd'), /^root:/)
})

test('--shm-size is the size of /dev/shm', async () => {
  await fails(/ENOSPC/, ['--shm-size', '1m'], 'fill', '/dev/shm/x', '2000000')
  await probe(['--shm-size', '4m'], 'fill', '/dev/shm/x', '2000000')
})

test('-v shows a directory of the host, to write to or not', async () => {
  const path = source('rw')
  assert.is(await ok(['-v', `${path}:/m`], 'cat', '/m/f'), 'host')
  await probe(['-v', `${path}:/m`], 'write-file', '/m/new', 'from inside')
  assert.is(readFileSync(join(path, 'new'), 'utf8'), 'from inside')
  await fails(/EROFS/, ['-v', `${path}:/m:ro`], 'write-file', '/m/new', 'x')
  await fails(
    /EROFS/,
    ['--mount', `type=bind,src=${path},dst=/m,readonly`],
    'write-file',
    '/m/new',
    'x',
  )
})

test('-v mounts a single file, onto one of the image too', async () => {
  const path = join(source('file'), 'f')
  assert.is(await ok(['-v', `${path}:/etc/passwd`], 'cat', '/etc/passwd'), 'host')
  assert.is(await ok(['-v', `${path}:/new/dir/file:ro`], 'cat', '/new/dir/file'), 'host')
})

test('-v makes a missing source, --mount does not', async () => {
  const path = join(berth.directory, 'made/by/v')
  await ok(['-v', `${path}:/m`], 'true')
  assert.ok(statSync(path).isDirectory())
  const missing = join(berth.directory, 'not/made')
  await berth.refused(hello(['--mount', `type=bind,src=${missing},dst=/m`], 'true'), /not\/made/)
  assert.not(existsSync(missing))
  assert.is(await berth.ok(['ps', '-aq']), '')
})

for (const [options, says] of [
  [['-v', '/tmp:relative'], /"?relative"?/],
  [['-v', 'no/name:/m'], /no\/name/],
  [['-v', '/tmp:/'], /\//],
  [['-v', '/tmp:/m:nonsense'], /nonsense/],
  [['-v', '/tmp:/m:z'], /SELinux/],
  [['--mount', 'type=bind,src=/tmp'], /target/],
  [['--mount', 'type=npipe,src=/a,dst=/b'], /npipe/],
  [['--mount', 'type=bind,src=/tmp,dst=/m,nonsense=1'], /nonsense/],
  [['--tmpfs', '/m:nonsense'], /nonsense/],
  [['--tmpfs', 'relative'], /relative/],
] as [string[], RegExp][]) {
  test(`refused: ${options.join(' ')}`, async () => {
    await berth.refused(hello(options, 'true'), says)
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
}

test('two mounts at one place are refused', async () => {
  await berth.refused(hello(['-v', '/tmp:/m', '--tmpfs', '/m'], 'true'), /\/m/)
})

test('propagation: private by default, slave and shared as asked', async () => {
  const path = source('prop')
  const field = async (options: string) => {
    const text = await ok(['-v', `${path}:/m${options}`], 'cat', '/proc/self/mountinfo')
    return text.split('\n').find((line) => line.includes(' /m '))
  }
  assert.not.match((await field('')) ?? '', /shared:|master:/)
  assert.match((await field(':rshared')) ?? '', /shared:|/)
})

test('a mount’s target that is a link in the image stays inside', async () => {
  const archive = join(berth.directory, 'link.tar')
  writeOciArchive(archive, [
    probeImage('links:1', [
      { name: 'out', type: 'symlink', to: '/../../../../etc' },
      { name: 'up', type: 'symlink', to: '../../../../../../tmp' },
    ]),
  ])
  await berth.ok(['load', '-i', archive])
  const path = source('target')
  assert.is(
    await berth.ok([
      'run',
      '--rm',
      '--net',
      'none',
      '-v',
      `${path}/f:/out/berth-escaped`,
      'links:1',
      'cat',
      '/etc/berth-escaped',
    ]),
    'host',
  )
  assert.not(existsSync('/etc/berth-escaped'))
  assert.is(
    await berth.ok([
      'run',
      '--rm',
      '--net',
      'none',
      '-v',
      `${path}:/up/berth-d`,
      'links:1',
      'cat',
      '/tmp/berth-d/f',
    ]),
    'host',
  )
  assert.not(existsSync('/tmp/berth-d'))
})

test('a source that is a link of the host is followed', async () => {
  const path = source('real')
  symlinkSync(path, join(berth.directory, 'link'))
  assert.is(await ok(['-v', `${join(berth.directory, 'link')}:/m`], 'cat', '/m/f'), 'host')
})

test('a named volume outlives its containers, and is in use while one has it', async () => {
  await probe(['-v', 'data:/m'], 'write-file', '/m/x', 'kept')
  assert.is(await ok(['-v', 'data:/m:ro'], 'cat', '/m/x'), 'kept')
  await berth.ok(['create', '--name', 'user', '--net', 'none', '-v', 'data:/m', 'hello'])
  await berth.refused(['volume', 'rm', 'data'], /in use by container/)
  await berth.ok(['rm', '-v', 'user'])
  assert.match(await berth.ok(['volume', 'ls']), /data/)
  await berth.ok(['volume', 'rm', 'data'])
  assert.not.match(await berth.ok(['volume', 'ls']), /data/)
})

test('anonymous volumes go with --rm and rm -v, and stay with rm', async () => {
  const count = async () => JSON.parse(await berth.ok(['volume', 'ls', '--format', 'json'])).length
  await ok(['-v', '/m'], 'true')
  assert.is(await count(), 0)
  await berth.ok(['create', '--name', 'a', '--net', 'none', '-v', '/m', 'hello'])
  assert.is(await count(), 1)
  await berth.ok(['rm', '-v', 'a'])
  assert.is(await count(), 0)
  await berth.ok(['create', '--name', 'a', '--net', 'none', '-v', '/m', 'hello'])
  await berth.ok(['rm', 'a'])
  assert.is(await count(), 1)
  await berth.ok(['volume', 'prune', '-f'])
  assert.is(await count(), 0)
})

test('an empty volume gets what the image has there, with owners and modes; nocopy leaves it empty', async () => {
  assert.match(await ok(['-v', 'etc:/etc'], 'ls', '/etc'), /passwd/)
  await berth.ok(['volume', 'rm', 'etc'])
  assert.match(await probe(['-v', 'home:/home'], 'stat', '/home/user'), /directory 0755 1000:1000/)
  await berth.ok(['volume', 'rm', 'home'])
  assert.not.match(await ok(['-v', 'etc:/etc:nocopy'], 'ls', '/etc'), /passwd/)
  await berth.ok(['volume', 'rm', 'etc'])
})

test('a VOLUME of the image is one of its own, filled from the image', async () => {
  const archive = join(berth.directory, 'volume.tar')
  const image = probeImage('volume:1', [
    { name: 'data/', type: 'directory', mode: 0o750, uid: 7, gid: 8 },
    { name: 'data/f', content: 'image\n', uid: 7, gid: 8 },
  ])
  writeOciArchive(archive, [{ ...image, config: { ...image.config, Volumes: { '/data': {} } } }])
  await berth.ok(['load', '-i', archive])
  await berth.ok(['run', '--net', 'none', '--name', 'v', 'volume:1', 'cat', '/data/f'])
  const [found] = JSON.parse(await berth.ok(['inspect', 'v']))
  assert.is(found.Mounts.length, 1)
  assert.is(found.Mounts[0].Destination, '/data')
  const { uid, gid, mode } = statSync(found.Mounts[0].Source)
  assert.equal([uid, gid, mode & 0o777], [7, 8, 0o750])
  await berth.ok(['rm', '-v', 'v'])
  assert.is(JSON.parse(await berth.ok(['volume', 'ls', '--format', 'json'])).length, 0)
  await berth.ok(['rmi', 'volume:1'])
})

test('--mount knows docker’s keys', async () => {
  const path = source('keys')
  assert.is(
    await ok(
      ['--mount', `type=bind,source=${path},target=/m,bind-propagation=rslave`],
      'cat',
      '/m/f',
    ),
    'host',
  )
  await probe(
    ['--mount', 'type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=0700'],
    'write-file',
    '/m/x',
    'x',
  )
  await probe(['--mount', 'type=volume,src=vol,dst=/m'], 'write-file', '/m/x', 'x')
  assert.is(await ok(['--mount', 'src=vol,dst=/m,ro'], 'cat', '/m/x'), 'x')
  await berth.ok(['volume', 'rm', 'vol'])
})

test('--device gives a device with the access asked for, and no other', async () => {
  assert.match(
    await probe(['--device', '/dev/loop-control'], 'open', '/dev/loop-control', 'rw'),
    /opened/,
  )
  assert.match(
    await probe(['--device', '/dev/loop-control:/dev/x:r'], 'open', '/dev/x', 'r'),
    /opened/,
  )
  await fails(/EPERM/, ['--device', '/dev/loop-control:/dev/x:r'], 'open', '/dev/x', 'w')
  await fails(/ENOENT/, [], 'open', '/dev/loop-control')
  await berth.refused(hello(['--device', '/dev/nosuch'], 'true'), /\/dev\/nosuch/)
  await berth.refused(hello(['--device', '/etc/passwd'], 'true'), /\/etc\/passwd/)
})

test('a node that the container makes itself is not to be opened', async () => {
  const { stderr } = await berth.run([
    'run',
    '--rm',
    '--net',
    'none',
    '-v',
    `${source('node')}:/m`,
    'hello',
    'probe',
    'mknod',
    '/kmsg',
    'c',
    '1',
    '11',
  ])
  assert.is(stderr, '')
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'node', 'hello', 'sleep'])
  await berth.ok(['exec', 'node', 'probe', 'mknod', '/kmsg', 'c', '1', '11'])
  const { code, stderr: says } = await berth.run(['exec', 'node', 'probe', 'open', '/kmsg'])
  assert.is(code, 1)
  assert.match(says, /EPERM/)
  await berth.ok(['rm', '-f', 'node'])
})

test('the default devices are there, and what hides the host is masked', async () => {
  for (const name of ['null', 'zero', 'full', 'random', 'urandom', 'tty']) {
    assert.match(await probe([], 'stat', `/dev/${name}`), /char 0666/)
  }
  assert.is(await ok([], 'cat', '/proc/keys'), '')
  await fails(/EROFS/, [], 'write-file', '/proc/sys/kernel/panic', '1')
  await fails(/EROFS/, [], 'write-file', '/proc/irq/default_smp_affinity', '1')
})

test('nothing is left behind', nothingIsLeft)

test.run()
