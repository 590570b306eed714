/** The commands for images and volumes, with the built-in image and archives made here. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import {
  helloEntries,
  probeImage,
  tar,
  writeDockerArchive,
  writeLayout,
  writeOciArchive,
} from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const run = (...rest: string[]) => berth.ok(['run', '--rm', '--net', 'none', ...rest])
const names = async (): Promise<string> => berth.ok(['images'])

test('the built-in image is there after its first use', async () => {
  await run('hello', 'true')
  assert.match(await names(), /hello\s+latest/)
  assert.match(await berth.ok(['images', '-q']), /^[0-9a-f]{12}$/)
  const list = JSON.parse(await berth.ok(['images', '--format', 'json']))
  assert.is(list.length, 1)
})

test('tag gives a further name; rmi takes a name, the last one takes the image', async () => {
  await berth.ok(['tag', 'hello', 'other:v1'])
  assert.is(await run('other:v1', 'echo', 'same'), 'same')
  await berth.ok(['rmi', 'other:v1'])
  assert.not.match(await names(), /other/)
  await run('hello', 'true')
  await berth.refused(['tag', 'nosuch', 'x'], /nosuch/)
  await berth.refused(['tag', 'hello', 'UPPER:x'], /UPPER/)
  await berth.refused(['rmi', 'nosuch'], /no image nosuch here/)
})

test('an image in use is not removed, not by force of a running one either', async () => {
  await berth.ok(['tag', 'hello', 'used:1'])
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'user', 'used:1', 'sleep'])
  await berth.ok(['rmi', 'used:1'])
  await berth.refused(['rmi', 'hello'], /in use|container/)
  assert.is(await berth.ok(['exec', 'user', 'echo', 'alive']), 'alive')
  await berth.ok(['rm', '-f', 'user'])
})

test('image inspect tells configuration and layers', async () => {
  const [found] = JSON.parse(await berth.ok(['image', 'inspect', 'hello']))
  assert.match(JSON.stringify(found), /"\/bin\/hello"/)
  assert.match(JSON.stringify(found), /sha256:[0-9a-f]{64}/)
  await berth.refused(['image', 'inspect', 'nosuch'], /nosuch/)
})

for (const [kind, write] of [
  ['oci-archive', writeOciArchive],
  ['docker-archive', writeDockerArchive],
] as const) {
  test(`load of a ${kind}, from a file and from stdin`, async () => {
    const path = join(berth.directory, `${kind}.tar`)
    write(path, [probeImage('loaded:1', [{ name: 'mark', content: kind }])])
    await berth.ok(['load', '-i', path])
    assert.is(await run('loaded:1', 'cat', '/mark'), kind)
    await berth.ok(['rmi', 'loaded:1'])
    const { readFileSync } = await import('node:fs')
    await berth.ok(['load'], { input: readFileSync(path) })
    assert.is(await run('loaded:1', 'cat', '/mark'), kind)
    await berth.ok(['rmi', 'loaded:1'])
    await berth.ok(['load', '-q'], { input: gzipSync(readFileSync(path)) })
    assert.is(await run('loaded:1', 'cat', '/mark'), kind)
    await berth.ok(['rmi', 'loaded:1'])
  })
}

test('load of a layout folder', async () => {
  const path = mkdtempSync(join(berth.directory, 'layout-'))
  writeLayout(path, [probeImage('folder:1', [{ name: 'mark', content: 'folder' }])])
  await berth.ok(['load', '-i', path])
  assert.is(await run('folder:1', 'cat', '/mark'), 'folder')
  await berth.ok(['rmi', 'folder:1'])
})

test('load of what is no image is refused, and leaves nothing', async () => {
  const before = await names()
  const path = join(berth.directory, 'nonsense.tar')
  writeFileSync(path, 'nonsense'.repeat(1000))
  await berth.refused(['load', '-i', path], /nonsense\.tar|archive|tar/)
  await berth.refused(['load', '-i', '/no/such'], /\/no\/such/)
  const { code, stderr } = await berth.run(['load'], { input: tar([{ name: 'x', content: 'y' }]) })
  assert.is.not(code, 0)
  assert.match(stderr, /manifest|index|layout|image/)
  assert.is(await names(), before)
})

test('import makes an image of a root file system, gzipped too', async () => {
  const path = join(berth.directory, 'rootfs.tar.gz')
  writeFileSync(path, gzipSync(tar(helloEntries())))
  await berth.ok(['import', path, 'imported:1'])
  assert.is(await run('imported:1', '/bin/echo', 'yes'), 'yes')
  await berth.refused(['run', '--rm', '--net', 'none', 'imported:1'], /no command/)
  await berth.ok(['rmi', 'imported:1'])
})

test('an image’s entrypoint, user, directory, environment and stop signal count', async () => {
  const path = join(berth.directory, 'config.tar')
  const image = probeImage('config:1')
  writeOciArchive(path, [
    {
      ...image,
      config: {
        ...image.config,
        Entrypoint: ['/bin/probe'],
        Cmd: ['id'],
        User: 'user',
        WorkingDir: '/home/user/made',
        Env: ['PATH=/bin', 'A=image', 'B=image'],
        StopSignal: 'SIGUSR2',
        Labels: { from: 'image' },
      },
    },
  ])
  await berth.ok(['load', '-i', path])
  assert.match(await run('config:1'), /^uid=1000 gid=1000/)
  assert.is(await run('config:1', 'pwd'), '/home/user/made')
  assert.match(await run('-e', 'B=option', 'config:1', 'env'), /A=image\nB=option/)
  assert.match(await run('-u', '0', 'config:1', 'id'), /^uid=0/)
  await berth.ok(['run', '-d', '--init', '--net', 'none', '--name', 'c', 'config:1', 'sleep'])
  await berth.ok(['stop', 'c'])
  assert.is(await berth.ok(['wait', 'c']), '140')
  assert.is(JSON.parse(await berth.ok(['inspect', 'c']))[0].Config.Labels.from, 'image')
  await berth.ok(['rm', 'c'])
  await berth.ok(['rmi', 'config:1'])
})

test('image prune takes what no name leads to', async () => {
  const path = join(berth.directory, 'prune.tar')
  writeOciArchive(path, [probeImage('prune:1', [{ name: 'a', content: 'a' }])])
  await berth.ok(['load', '-i', path])
  writeOciArchive(path, [probeImage('prune:1', [{ name: 'b', content: 'b' }])])
  await berth.ok(['load', '-i', path])
  await berth.ok(['image', 'prune', '-f'])
  assert.is(JSON.parse(await berth.ok(['images', '--format', 'json'])).length, 2)
  await berth.ok(['rmi', 'prune:1'])
})

test('volumes: create, ls, inspect, rm, prune', async () => {
  assert.is(await berth.ok(['volume', 'create', 'v1']), 'v1')
  assert.is(await berth.ok(['volume', 'create', '--label', 'a=b', 'v2']), 'v2')
  assert.match(await berth.ok(['volume', 'create']), /^[0-9a-f]{64}$/)
  const [found] = JSON.parse(await berth.ok(['volume', 'inspect', 'v2']))
  assert.match(JSON.stringify(found), /"a":"b"/)
  await berth.refused(['volume', 'create', '../x'], /volume name|name/)
  await berth.refused(['volume', 'inspect', 'nosuch'], /nosuch/)
  await berth.refused(['volume', 'rm', 'nosuch'], /nosuch/)
  await berth.ok(['volume', 'rm', 'v1'])
  await berth.ok(['volume', 'prune', '-f'])
  assert.is(JSON.parse(await berth.ok(['volume', 'ls', '--format', 'json'])).length, 0)
})

test('images are listed and pruned by label and age', async () => {
  const layout = mkdtempSync(join(berth.directory, 'filters-'))
  const labelled = (name: string, Labels: Record<string, string>) => ({
    ...probeImage(name, [{ name: 'mark', content: name }]),
    config: { Labels },
  })
  writeLayout(layout, [labelled('f:web', { team: 'web' }), labelled('f:keep', { keep: '' })])
  await berth.ok(['load', '-q', '-i', layout])
  const listed = async (...filters: string[]): Promise<string[]> => {
    const words = filters.flatMap((filter) => ['-f', filter])
    const images = JSON.parse(
      await berth.ok(['images', '--format', 'json', '-f', 'reference=f', ...words]),
    ) as { names: string[] }[]
    return images.flatMap((image) => image.names).sort()
  }
  const both = ['docker.io/library/f:keep', 'docker.io/library/f:web']
  assert.equal(await listed(), both)
  assert.equal(await listed('label=team'), ['docker.io/library/f:web'])
  assert.equal(await listed('label=team=web', 'until=1h'), ['docker.io/library/f:web'])
  assert.equal(await listed('label=team=db'), [])
  assert.equal(await listed('label!=team'), ['docker.io/library/f:keep'])
  // Made in 1970, as all images of the tests.
  assert.equal(await listed('until=1960-01-01'), [])
  assert.equal(await listed('before=f:web'), [])
  await berth.refused(['images', '-f', 'since=nosuch'], /no image nosuch/)
  await berth.refused(['images', '-f', 'colour=red'], /known keys are .*label!/)
  await berth.refused(
    ['image', 'prune', '-af', '--filter', 'dangling=true'],
    /known keys are label/,
  )
  const pruned = async (...words: string[]): Promise<number> =>
    JSON.parse(await berth.ok(['image', 'prune', '-af', '--format', 'json', ...words])).images
      .length
  assert.is(await pruned('--filter', 'label=team', '--filter', 'until=1960-01-01'), 0)
  assert.equal(await listed(), both)
  assert.is(await pruned('--filter', 'label=team', '--filter', 'until=1h'), 1)
  assert.equal(await listed(), ['docker.io/library/f:keep'])
  await berth.ok(['rmi', 'f:keep'])
})

test('nothing is left behind', nothingIsLeft)

test.run()
