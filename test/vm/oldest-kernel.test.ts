/** What berth does another way on Linux 6.1 than on newer ones; the runner takes this file to a machine with such a kernel as well. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { overlayMount } from '../../src/kernel/mount-api.ts'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { needing, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'userns')

const { berth, nothingIsLeft } = berthOfFile()
const NAME_BYTES = 200
const LAYERS = 130

/** Directories with a file each, topmost first, under names with everything that overlayfs reads as its own. */
function layers(name: string, count: number): string[] {
  const directory = join(berth.directory, name, 'a:b,c\\d'.padEnd(NAME_BYTES, '-'))
  return Array.from({ length: count }, (_, i) => {
    const layer = join(directory, `${i}`.padStart(NAME_BYTES, '0'))
    mkdirSync(layer, { recursive: true })
    writeFileSync(join(layer, `file-${i}`), `${i}`)
    writeFileSync(join(layer, 'topmost'), `${i}`)
    return layer
  })
}

const mountinfo = (): string => readFileSync('/proc/self/mountinfo', 'utf8')

test('run starts, and the root is an overlay', async () => {
  assert.match(await berth.ok(['run', '--rm', '--net', 'none', 'hello']), / overlay +\/ /)
})

test(`a view of ${LAYERS} layers with long paths is whole, read-only and in no mount table`, () => {
  const lower = layers('view', LAYERS)
  const before = mountinfo()
  using view = overlayMount({ lower })
  assert.is(mountinfo(), before)
  const root = `/proc/self/fd/${view.number}`
  assert.is(readdirSync(root).length, LAYERS + 1)
  assert.is(readFileSync(join(root, `file-${LAYERS - 1}`), 'utf8'), `${LAYERS - 1}`)
  assert.is(readFileSync(join(root, 'topmost'), 'utf8'), '0')
  assert.throws(() => writeFileSync(join(root, 'x'), ''), /EROFS/)
})

test('a view with an upper directory takes changes there, and no layer changes', () => {
  const lower = layers('changed', 2)
  const [upper, work] = ['upper', 'work'].map((name) => join(berth.directory, 'changed', name))
  assert.ok(upper && work)
  mkdirSync(upper)
  mkdirSync(work)
  using view = overlayMount({ lower, upper, work })
  writeFileSync(`/proc/self/fd/${view.number}/topmost`, 'changed')
  assert.is(readFileSync(join(upper, 'topmost'), 'utf8'), 'changed')
  assert.is(readFileSync(join(lower[0] ?? '', 'topmost'), 'utf8'), '0')
})

test('a layer that is not there is named', () => {
  const missing = join(berth.directory, 'nowhere')
  assert.throws(
    () => overlayMount({ lower: [...layers('missing', 1), missing] }),
    /ENOENT.*nowhere/,
  )
})

test('--userns on a tmpfs: where its ids cannot be mapped the image is copied, and that is said', async () => {
  const place = join(berth.directory, 'tmpfs')
  mkdirSync(place)
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', place])
  try {
    const { code, stdout, stderr } = await berth.run([
      ...['--root', join(place, 'root'), 'run', '--rm', '--net', 'none', '--userns', 'auto'],
      ...['hello', 'probe', 'stat', '/etc/hosts', '/etc/passwd'],
    ])
    assert.is(code, 0, stderr)
    assert.match(stdout, /^\/etc\/hosts file 0644 0:0 .*\n\/etc\/passwd file 0644 0:0 /)
    if (stderr !== '') assert.match(stderr, /copied into the container with its owners changed/)
  } finally {
    execFileSync('umount', [place])
  }
})

needing(
  test,
  'program:mkfs.ext4',
  'filesystem:ext4',
  'file:/dev/loop-control',
)('--userns on ext4 maps the layers: nothing is copied', async () => {
  const disk = join(berth.directory, 'disk')
  const place = join(berth.directory, 'ext4')
  writeFileSync(disk, '')
  execFileSync('truncate', ['--size', '100M', disk])
  execFileSync('mkfs.ext4', ['-q', disk])
  mkdirSync(place)
  execFileSync('mount', ['-o', 'loop', disk, place])
  try {
    const own = ['--root', join(place, 'root')]
    const options = ['--net', 'none', '--userns', 'auto', '--name', 'mapped']
    const verb = ['hello', 'probe', 'stat', '/etc/passwd']
    const { stdout, stderr } = await berth.run([...own, 'run', ...options, ...verb])
    assert.is(stderr, '')
    assert.match(stdout, /^\/etc\/passwd file 0644 0:0 /)
    const [id = ''] = readdirSync(join(place, 'root/containers'))
    const upper = join(place, 'root/containers', id, 'upper')
    assert.not(readdirSync(upper).includes('bin'))
    assert.ok(statSync(upper).uid > 0)
    await berth.ok([...own, 'rm', 'mapped'])
  } finally {
    execFileSync('umount', [place])
  }
})

test('a container is started again after its whole cgroup was killed, and takes an exec', async () => {
  await berth.ok([
    ...['run', '-d', '--name', 'again', '--net', 'none', '--restart', 'always'],
    ...['hello', 'probe', 'sleep'],
  ])
  const pid = async (): Promise<number> => {
    const [found] = JSON.parse(await berth.ok(['inspect', 'again'])) as { State: { Pid: number } }[]
    return found?.State.Pid ?? 0
  }
  const first = await pid()
  const group = /^0::(.*)$/m.exec(readFileSync(`/proc/${first}/cgroup`, 'utf8'))?.[1] ?? ''
  writeFileSync(
    join(/ (\S+) \S+ - cgroup2 /.exec(mountinfo())?.[1] ?? '', group, 'cgroup.kill'),
    '1',
  )
  await eventually('it runs again', async () => ![0, first].includes(await pid()))
  assert.match(await berth.ok(['exec', 'again', 'probe', 'id']), /^uid=0 /)
  await berth.ok(['rm', '-f', 'again'])
})

test('nothing is left behind', nothingIsLeft)

test.run()
