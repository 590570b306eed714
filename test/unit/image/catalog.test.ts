import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Catalog, type ImageRecord } from '../../../src/image/catalog.ts'
import { digestOf } from '../../../src/image/digest.ts'
import type { Digest } from '../../../src/spec/image.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-catalog-'))
let count = 0
function fresh(): Catalog {
  return new Catalog(join(directory, String(count++)), { durable: false })
}

function image(text: string): ImageRecord {
  const id = digestOf(Buffer.from(text))
  return {
    version: 1,
    id,
    manifest: id,
    manifestMediaType: 'x',
    platform: { os: 'linux', architecture: 'amd64' },
    created: '',
    size: 1,
    diffIds: [],
  }
}

test('an image is found by name, id, id with algorithm and unique prefix', async () => {
  const catalog = fresh()
  const { id } = image('a')
  await catalog.put(image('a'), [{ name: 'docker.io/library/app:1' }])
  for (const text of [
    'app:1',
    'docker.io/library/app:1',
    id,
    id.slice(7),
    id.slice(7, 19),
    id.slice(0, 12),
  ]) {
    assert.is(catalog.resolve(text).id, id, text)
  }
  assert.is(catalog.resolve('app:1').name, 'docker.io/library/app:1')
  for (const text of ['app', 'app:2', 'ffff', `sha256:${'0'.repeat(64)}`]) {
    assert.throws(() => catalog.resolve(text), /no image/, text)
  }
})

test('an id of sha512 is found likewise, and by no prefix of sha256', async () => {
  const catalog = fresh()
  const id = `sha512:${'5b'.repeat(64)}` as Digest
  await catalog.put({ ...image('a'), id }, [{ name: 'docker.io/library/app:1' }])
  for (const text of [id, id.slice(7), id.slice(7, 19), id.slice(0, 12)]) {
    assert.is(catalog.resolve(text).id, id, text)
  }
  assert.throws(() => catalog.resolve('sha256:5b5b5b'), /no image/)
})

test('a name that looks like an id prefix wins over it', async () => {
  const catalog = fresh()
  const a = image('a')
  const prefix = a.id.slice(7, 11)
  await catalog.put(a, [])
  assert.is(catalog.resolve(prefix).id, a.id)
  await catalog.put(image('b'), [{ name: `docker.io/library/${prefix}:latest` }])
  assert.is(catalog.resolve(prefix).id, image('b').id)
})

test('a prefix of several ids is refused', async () => {
  const catalog = fresh()
  // Of 400 ids two begin alike in two digits.
  for (let i = 0; i < 400; i++) await catalog.put(image(String(i)), [])
  const starts = catalog.list().map(({ id }) => id.slice(7, 9))
  const twice = starts.find((start, i) => starts.indexOf(start) !== i) ?? ''
  assert.throws(() => catalog.resolve(twice), /give more of it/)
})

test('a name moves to the next image, and the first stays without it', async () => {
  const catalog = fresh()
  const name = 'q.io/a:1'
  await catalog.put(image('a'), [{ name }])
  await catalog.put(image('b'), [{ name }])
  assert.equal(catalog.get(image('a').id).names, [])
  assert.equal(catalog.get(image('b').id).names, [name])
})

test('names by digest are listed apart from tags', async () => {
  const catalog = fresh()
  const byDigest = `q.io/a@${image('m').id}`
  await catalog.put(image('a'), [{ name: 'q.io/a:1' }, { name: byDigest }])
  const [only] = catalog.list()
  assert.equal(only?.names, ['q.io/a:1'])
  assert.equal(only?.repoDigests, [byDigest])
})

test('tagging an image that is gone is NOT_FOUND', async () => {
  try {
    await fresh().tag(image('a').id, 'q.io/a:1')
    assert.unreachable()
  } catch (error) {
    assert.match(String(error), /no longer here/)
  }
})

test('20 changes at once all arrive', async () => {
  const catalog = fresh()
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => catalog.put(image('a'), [{ name: `q.io/a:${i}` }])),
  )
  assert.is(catalog.get(image('a').id).names.length, 20)
})

test('500 images with two names each are listed in half a second of CPU', async () => {
  const catalog = fresh()
  for (let i = 0; i < 500; i++) {
    await catalog.put(image(String(i)), [{ name: `q.io/a:${i}` }, { name: `q.io/b:${i}` }])
  }
  // Not by the clock: the machine may be busy with other things. Of each image with all names it would be a minute.
  const before = process.cpuUsage()
  assert.is(catalog.list().length, 500)
  const { user, system } = process.cpuUsage(before)
  assert.ok(user + system < 500_000, `${user + system} us`)
})

test.after(() => rmSync(directory, { recursive: true, force: true }))
test.run()
