import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  collect,
  holdContent,
  inspectImage,
  loadArchive,
  pruneImages,
  removeImage,
  tagImage,
} from '../../src/image/index.ts'
import { prepareChain } from '../../src/layer/index.ts'
import { type PrivateStore, privateStore, storeContent } from '../lib/image-store.ts'
import { writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root')

const NOBODY = () => ({ images: [], layers: [] })
const BASE = [{ name: 'etc/', type: 'directory' as const, mode: 0o711 }]

/** Images with one layer in common and one of their own each. */
async function loadImages(store: PrivateStore, ...names: string[]): Promise<string[]> {
  const path = join(store.directory, 'layout')
  writeLayout(
    path,
    names.map((name) => ({ name, layers: [BASE, [{ name: `etc/${name}`, content: name }]] })),
  )
  return (await loadArchive(store, path)).map(({ id }) => id)
}

function remove(store: PrivateStore, text: string, force = false, users: string[] = []) {
  return removeImage(store, text, { force, users: () => users, roots: NOBODY })
}

async function refused(work: Promise<unknown>, reason: RegExp): Promise<void> {
  try {
    await work
  } catch (error) {
    assert.is((error as { code?: string }).code, 'FAILED_PRECONDITION')
    assert.match(String(error), reason)
    return
  }
  assert.unreachable('it was removed')
}

test('by name only the name goes; with the last name the image goes, and what others share stays', async () => {
  using store = privateStore()
  const [a = '', b = ''] = await loadImages(store, 'q.io/a:1', 'q.io/b:1')
  await tagImage(store, 'q.io/a:1', 'q.io/a:2')
  assert.equal((await remove(store, 'q.io/a:1')).deleted, [])
  const last = await remove(store, 'q.io/a:2')
  assert.equal(last.deleted, [a])
  assert.is(last.collected.layers, 1)
  const { image } = inspectImage(store, b)
  for (const diffId of image.diffIds) assert.ok(store.layers.has(diffId))
})

test('by id an image with several names needs force', async () => {
  using store = privateStore()
  const [a = ''] = await loadImages(store, 'q.io/a:1')
  await tagImage(store, a, 'q.io/other:2')
  await refused(remove(store, a.slice(7, 19)), /several names \(q\.io\/a:1, q\.io\/other:2\)/)
  assert.equal((await remove(store, a, true)).untagged.length, 2)
  assert.equal(storeContent(store), [])
})

test('the image of a container is refused; with force it loses its name and keeps its layers', async () => {
  using store = privateStore()
  const [a = ''] = await loadImages(store, 'q.io/a:1')
  await refused(remove(store, 'q.io/a:1', false, ['container web']), /in use by container web/)
  const forced = await remove(store, 'q.io/a:1', true, ['container web'])
  assert.equal(forced.deleted, [])
  const { image } = inspectImage(store, a)
  assert.equal(image.names, [])
  assert.ok(image.diffIds.every((diffId) => store.layers.has(diffId)))
})

test('prune takes images without a name, with all also named ones, and never those of containers', async () => {
  using store = privateStore()
  const [a = '', b = '', c = ''] = await loadImages(store, 'q.io/a:1', 'q.io/b:1', 'q.io/c:1')
  // The name moves: a is left without one.
  await tagImage(store, b, 'q.io/a:1')
  const roots = () => ({ images: [c], layers: inspectImage(store, c).image.diffIds })
  assert.equal((await pruneImages(store, { all: false, roots })).deleted, [a])
  assert.equal((await pruneImages(store, { all: true, roots })).deleted, [b])
  assert.equal(
    store.catalog.list().map(({ id }) => id),
    [c],
  )
  assert.ok(inspectImage(store, c).image.diffIds.every((diffId) => store.layers.has(diffId)))
})

test('a fix-up layer goes with its image', async () => {
  using store = privateStore()
  const [a = ''] = await loadImages(store, 'q.io/a:1')
  const { lower } = await prepareChain(store.layers, inspectImage(store, a).image.diffIds)
  assert.is(lower.length, 3)
  assert.is(store.layers.listFixups().length, 1)
  await remove(store, 'q.io/a:1')
  assert.equal(storeContent(store), [])
})

test('while somebody holds the content nothing is collected, and afterwards all that was waiting', async () => {
  using store = privateStore()
  await loadImages(store, 'q.io/a:1')
  const hold = await holdContent(store)
  const removed = await remove(store, 'q.io/a:1')
  assert.is(removed.collected.isDone, false)
  assert.ok([...store.blobs.list()].length > 0)
  hold.release()
  const later = await collect(store, { roots: NOBODY, wait: false, partials: false })
  assert.is(later.isDone, true)
  assert.equal(storeContent(store), [])
})

test('a load killed at any moment leaves a store that opens, collects clean and loads again', async () => {
  using store = privateStore()
  const layout = join(store.directory, 'layout')
  writeLayout(
    layout,
    ['a', 'b', 'c'].map((name) => ({
      name: `q.io/${name}:1`,
      layers: [BASE, [{ name: 'etc/big', content: Buffer.alloc(2_000_000, name) }]],
    })),
  )
  const script = `
    const { openStore, loadArchive } = await import(${JSON.stringify(new URL('../../src/image/index.js', import.meta.url).href)})
    const store = openStore(${JSON.stringify(store.root)}, { durable: false })
    process.stdout.write('x')
    await loadArchive(store, ${JSON.stringify(layout)}, { progress: () => process.stdout.write('x') })
  `
  // The n-th word of progress is the moment.
  for (const moment of [1, 2, 4, 7, 10, 14, 18]) {
    await new Promise<void>((resolve) => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let seen = 0
      child.stdout.on('data', (chunk: Buffer) => {
        seen += chunk.length
        if (seen >= moment) child.kill('SIGKILL')
      })
      child.once('close', () => resolve())
    })
    for (const { id } of store.catalog.list()) {
      for (const diffId of inspectImage(store, id).image.diffIds) {
        assert.ok(existsSync(store.layers.treePath(diffId)))
      }
    }
  }
  assert.is((await loadArchive(store, layout)).length, 3)
  await collect(store, { roots: NOBODY, wait: true, partials: true })
  assert.equal(readdirSync(join(store.root, 'images', 'ingest')), [])
  assert.equal(readdirSync(join(store.root, 'layers', 'tmp')), [])
  await pruneImages(store, { all: true, roots: NOBODY })
  assert.equal(storeContent(store), [])
})

test.run()
