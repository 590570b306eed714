/** `image mount`: an image's files on the host, kept from removal while they are seen, and never lost sight of. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { probeImage, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'program:unshare')

const { berth, nothingIsLeft } = berthOfFile()
const mounts = async (): Promise<{ id: string; names: string[]; path: string }[]> =>
  JSON.parse(await berth.ok(['image', 'mount', '--format', 'json']))
const isMounted = (path: string): boolean =>
  readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `)

test('two images are made', async () => {
  const layout = join(berth.directory, 'layout')
  writeLayout(layout, [
    probeImage(
      'q.io/one:1',
      [{ name: 'etc/mark', content: 'one' }],
      [{ name: 'etc/.wh.passwd', content: '' }],
    ),
    { name: 'q.io/flat:1', layers: [[{ name: 'file', content: 'flat' }]] },
  ])
  await berth.ok(['load', '-q', '-i', layout])
  assert.equal(await mounts(), [])
})

test('the files are there, read-only, and a second mount is the first', async () => {
  const one = await berth.ok(['image', 'mount', 'q.io/one:1'])
  const flat = await berth.ok(['image', 'mount', 'q.io/flat:1'])
  assert.is(readFileSync(join(one, 'etc/mark'), 'utf8'), 'one')
  assert.not.ok(existsSync(join(one, 'etc/passwd')))
  assert.is(readFileSync(join(flat, 'file'), 'utf8'), 'flat')
  for (const path of [one, flat]) {
    assert.throws(() => writeFileSync(join(path, 'x'), ''), /EROFS/)
    const line = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((each) => each.includes(` ${path} `))
    assert.match(line ?? '', / ro,nosuid,nodev/)
  }
  assert.is(await berth.ok(['image', 'mount', 'q.io/one:1']), one)
  assert.equal((await mounts()).map(({ names }) => names).sort(), [['q.io/flat:1'], ['q.io/one:1']])
  assert.match(await berth.ok(['image', 'mount']), /^IMAGE ID +NAMES +PATH\n[0-9a-f]{12} +q\.io\//)
})

test('a mounted image is not removed; by force only its name goes, and a prune keeps its layers', async () => {
  const [one] = (await mounts()).filter(({ names }) => names.includes('q.io/one:1'))
  await berth.refused(['rmi', 'q.io/one:1'], /in use by its mount at .*image-mounts/)
  await berth.ok(['rmi', '-f', 'q.io/one:1'])
  await berth.ok(['image', 'prune', '-af'])
  assert.is(readFileSync(join(one?.path ?? '', 'etc/mark'), 'utf8'), 'one')
  await berth.ok(['tag', one?.id ?? '', 'q.io/one:1'])
})

test('somebody in it keeps it, unless by force', async () => {
  const path = await berth.ok(['image', 'mount', 'q.io/one:1'])
  const fd = openSync(join(path, 'etc/mark'), 'r')
  try {
    await berth.refused(['image', 'unmount', 'q.io/one:1'], /something is in use below/)
    assert.ok(isMounted(path))
    await berth.ok(['image', 'unmount', '-f', 'q.io/one:1'])
    assert.not.ok(isMounted(path))
    assert.is(readFileSync(fd, 'utf8'), 'one')
  } finally {
    closeSync(fd)
  }
  await berth.refused(['image', 'unmount', 'q.io/one:1'], /is not mounted/)
  assert.not.ok(existsSync(path))
})

test('a mount that is gone, as after a reboot, is no mount; neither is a record of a killed command', async () => {
  const path = await berth.ok(['image', 'mount', 'q.io/one:1'])
  execFileSync('umount', [path])
  assert.equal(
    (await mounts()).map(({ names }) => names),
    [['q.io/flat:1']],
  )
  assert.equal(readdirSync(join(berth.state, 'image-mounts')).length, 2)
  const again = await berth.ok(['image', 'mount', 'q.io/one:1'])
  const record = JSON.parse(readFileSync(`${again}.json`, 'utf8'))
  execFileSync('umount', [again])
  writeFileSync(`${again}.json`, JSON.stringify({ ...record, bootId: 'another boot' }))
  // Of another boot: it keeps nothing.
  await berth.ok(['rmi', 'q.io/one:1'])
  assert.equal((await mounts()).length, 1)
})

test('a mount in another namespace is known, kept, and not taken for gone, until the namespace has ended', async () => {
  const layout = join(berth.directory, 'layout')
  await berth.ok(['load', '-q', '-i', layout])
  const { execPath } = process
  const berthProgram = join(process.cwd(), 'bin/berth.cjs')
  const script = '"$@" >&2 && echo mounted && read line'
  const words = [execPath, berthProgram, 'image', 'mount', 'q.io/one:1']
  const other = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', ...words], {
    env: berth.env(),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(other, 'exit')
  assert.is(String((await once(other.stdout, 'data'))[0]), 'mounted\n')
  assert.equal((await mounts()).length, 2)
  await berth.refused(['image', 'unmount', 'q.io/one:1'], /in another mount namespace/)
  await berth.refused(['rmi', 'q.io/one:1'], /in use by its mount/)

  // Nobody is in it any more, but somebody could go there again.
  const fd = openSync(`/proc/${other.pid}/ns/mnt`, 'r')
  other.stdin.end('\n')
  await ended
  await berth.refused(['rmi', 'q.io/one:1'], /in use by its mount/)
  closeSync(fd)
  // The kernel takes its time to end it.
  const isRemoved = async () => (await berth.run(['rmi', 'q.io/one:1'])).code === 0
  await eventually('the image can go', isRemoved)
  assert.equal((await mounts()).length, 1)
})

test('all are unmounted, and the images can go', async () => {
  await berth.ok(['image', 'umount', '--all'])
  assert.equal(await mounts(), [])
  await berth.ok(['rmi', 'q.io/flat:1'])
  assert.equal(readdirSync(join(berth.state, 'image-mounts')), [])
  await berth.refused(['image', 'unmount'], /name images, or say --all/)
})

test('nothing is left behind', nothingIsLeft)

test.run()
