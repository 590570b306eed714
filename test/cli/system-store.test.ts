/** `system check` and `system df` as a user sees them. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { lockFile } from '../../src/kernel/lock.ts'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { probeImage, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const RUN = ['run', '--net', 'none']
const { berth, nothingIsLeft } = berthOfFile()
const check = (...more: string[]) => berth.run(['system', 'check', '-q', ...more])

test('check: all is well; damage in use stays and is told, then it is repaired', async () => {
  await berth.ok(['create', '--name', 'user', '--net', 'none', 'hello', 'true'])
  const good = await check()
  assert.is(good.code, 0, good.stderr)
  assert.match(good.stdout, /^checked 1 images, 3 blobs, 1 layers: all is well\n$/)
  const [image] = JSON.parse(await berth.ok(['image', 'inspect', 'hello']))
  const diffId = String(image.config.rootfs.diff_ids[0]).slice(7)
  const file = join(berth.root, 'layers/sha256', diffId, 'tree/etc/passwd')
  const before = readFileSync(file)
  writeFileSync(file, 'changed')
  const found = await check('--format', 'json')
  assert.is(found.code, 1)
  const { damage } = JSON.parse(found.stdout)
  assert.equal([damage.length, damage[0].damage.kind, damage[0].damage.hex], [1, 'layer', diffId])
  const left = await check('--repair')
  assert.is(left.code, 1)
  assert.match(left.stdout, /damaged: layer .* \(a container uses it: remove the container first\)/)
  await berth.ok(['rm', 'user'])
  const repaired = await check('--repair')
  assert.is(repaired.code, 0, repaired.stdout)
  assert.match(repaired.stdout, /repaired: layer .* \(unpacked again\)\n.*: 1 damaged\n$/)
  assert.ok(readFileSync(file).equals(before))
  assert.is((await check()).code, 0)
  await berth.refused(['system', 'check', '--pull'], /--pull is part of a repair/)
})

test('check: ctrl-C calls it off, also while it waits for another command', async () => {
  const path = join(berth.root, 'images/content.lock')
  using _lock = await lockFile(path, { exclusive: true })
  const child = berth.spawn(['system', 'check', '-q'])
  const isWaiting = (): boolean =>
    readdirSync(`/proc/${child.pid}/fd`).some(
      (fd) => linkOf(`/proc/${child.pid}/fd/${fd}`) === path,
    )
  await eventually('it waits for the lock', isWaiting)
  const ended = once(child, 'exit')
  child.kill('SIGINT')
  // By itself, after it has put away what it had begun, not by the signal.
  const [code, signal] = await ended
  assert.is(signal, null)
  assert.is.not(code, 0)
})

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    // Closed meanwhile.
    return ''
  }
}

interface Usage {
  images: {
    images: { image: { id: string; names: string[] }; sharedBytes: number; ownBytes: number }[]
    totalBytes: number
    blobBytes: number
    layerBytes: number
    reclaimableBytes: number
  }
  containers: { name: string; changedBytes: number; bytes: number; isActive: boolean }[]
  volumes: { name: string; bytes: number; users: string[] }[]
}
const df = async (): Promise<Usage> =>
  JSON.parse(await berth.ok(['system', 'df', '--format', 'json']))
const du = (...paths: string[]): number =>
  Number(
    execFileSync('du', ['-sc', '--block-size=1', ...paths], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .at(-1)
      ?.split('\t')[0],
  )

test('df: the sums are those of du, hard links and holes included', async () => {
  const layout = join(berth.directory, 'layout')
  const shared = [
    { name: 'big', content: Buffer.alloc(300_000, 'x') },
    { name: 'again', type: 'hardlink' as const, to: 'big' },
    {
      name: 'GNUSparseFile.0/holes',
      content: Buffer.alloc(4096, 'y'),
      pax: {
        'GNU.sparse.name': 'holes',
        'GNU.sparse.size': '10000000',
        'GNU.sparse.numblocks': '1',
        'GNU.sparse.map': '0,4096',
      },
    },
  ]
  writeLayout(layout, [
    probeImage('q.io/one:1', shared, [{ name: 'own', content: Buffer.alloc(50_000, '1') }]),
    probeImage('q.io/two:1', shared, [{ name: 'own', content: Buffer.alloc(70_000, '2') }]),
  ])
  await berth.ok(['load', '-q', '-i', layout])
  await berth.ok([
    ...RUN,
    '--name',
    'writer',
    '-v',
    'data:/data',
    'q.io/one:1',
    'probe',
    'write-file',
    '/data/f',
    'text',
  ])
  await berth.ok([...RUN, '-d', '--name', 'sleeper', 'hello', 'sleep', '1000'])
  const at = (...names: string[]): string => join(berth.root, ...names)
  const usage = await df()
  assert.is(usage.images.totalBytes, du(at('images'), at('layers')))
  const blobs = readdirSync(at('images/blobs/sha256')).map((name) =>
    at('images/blobs/sha256', name),
  )
  assert.is(usage.images.blobBytes, du(...blobs))
  assert.is(
    usage.images.layerBytes,
    du(at('layers/sha256')) - statSync(at('layers/sha256')).blocks * 512,
  )
  const [writer] = usage.containers.filter(({ name }) => name === 'writer')
  const id = await berth.ok(['ps', '-aq', '--no-trunc', '-f', 'name=writer'])
  assert.is(writer?.bytes, du(at('containers', id)))
  assert.is(writer?.changedBytes, du(at('containers', id, 'upper')))
  assert.is(usage.volumes[0]?.bytes, du(at('volumes/data')))
  assert.is(usage.volumes[0]?.users.length, 1)
  // What removal of one image gives back is what was said.
  const [two] = usage.images.images.filter(({ image }) => image.names.includes('q.io/two:1'))
  const before = usage.images.blobBytes + usage.images.layerBytes
  await berth.ok(['rmi', 'q.io/two:1'])
  const after = await df()
  assert.is(after.images.blobBytes + after.images.layerBytes, before - (two?.ownBytes ?? 0))
  assert.is(after.images.reclaimableBytes, 0)
  await berth.ok(['rm', 'writer'])
  const unused = await df()
  const [one] = unused.images.images.filter(({ image }) => image.names.includes('q.io/one:1'))
  assert.is(unused.images.reclaimableBytes, one?.ownBytes)
  const pruned = JSON.parse(await berth.ok(['image', 'prune', '-af', '--format', 'json']))
  assert.equal(pruned.images, [one?.image.id])
  const text = await berth.ok(['system', 'df', '-v'])
  assert.match(
    text,
    /^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +1 +1 .*\nContainers +1 +1 .*\nVolumes +1 +0 /,
  )
  assert.match(text, /\nCONTAINER ID .*\n[0-9a-f]{12} +sleeper +running /)
})

test('nothing is left behind', nothingIsLeft)

test.run()
