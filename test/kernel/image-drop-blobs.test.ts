/** Without the archives of its layers an image is what it was: it runs, is checked, and is saved with the same id. */
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Proofs } from '../../src/image/drop-blobs.ts'
import {
  archiveOf,
  checkStore,
  collect,
  dropBlobs,
  gatherImages,
  holdContent,
  inspectImage,
  loadArchive,
  pullImage,
  repairStore,
} from '../../src/image/index.ts'
import { readManifest } from '../../src/image/inspect.ts'
import { layerBytes } from '../../src/image/layer-bytes.ts'
import { cook, writeRecipe } from '../../src/layer/recipe.ts'
import type { Digest } from '../../src/spec/image.ts'
import { eventually } from '../lib/eventually.ts'
import { type PrivateStore, privateStore } from '../lib/image-store.ts'
import { tar, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { Random } from '../lib/random.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

const ROOTS = () => ({ images: [], layers: [], chains: [] })
const random = new Random(1)
const noise = (bytes: number): Buffer =>
  Buffer.from(Array.from({ length: bytes }, () => random.between(0, 255)))

/** What an archive can hold that a tree packed anew would not give: order, dialects, names given twice, ways through links. */
const LAYERS = [
  [
    { name: './', type: 'directory' as const },
    { name: './z', content: noise(700_000) },
    { name: './a', content: 'first\n' },
    { name: 'real/', type: 'directory' as const, mode: 0o711 },
    { name: 'link', type: 'symlink' as const, to: 'real' },
    { name: 'link/through', content: noise(3000) },
    { name: `${'long/'.repeat(40)}file`, content: noise(5000) },
    { name: 'twice', content: noise(2000) },
    { name: 'twice', content: 'the second' },
    { name: 'hard', type: 'hardlink' as const, to: './z' },
    { name: 'empty', content: '' },
    {
      name: 'holes',
      content: noise(4096),
      pax: {
        'GNU.sparse.size': '100000',
        'GNU.sparse.numblocks': '1',
        'GNU.sparse.map': '8192,4096',
      },
    },
    { name: 'umlaut-ä', content: 'x', xattrs: { 'user.a': 'b' } },
  ],
  [
    { name: 'a', content: 'changed\n' },
    { name: '.wh.z', content: '' },
  ],
]

async function withImage(
  compression: 'none' | 'gzip',
  use: (store: PrivateStore, id: Digest) => Promise<void>,
): Promise<void> {
  using store = privateStore()
  const layout = join(store.directory, 'layout')
  writeLayout(layout, [{ name: 'q.io/a:1', layers: LAYERS, compression }])
  const [loaded] = await loadArchive(store, layout)
  if (loaded === undefined) throw new Error('nothing loaded')
  await use(store, loaded.id)
}

async function saved(store: PrivateStore): Promise<Buffer> {
  using _hold = await holdContent(store)
  await using images = await gatherImages(store, ['q.io/a:1'], { format: 'oci-archive' })
  const chunks: Uint8Array[] = []
  for await (const chunk of archiveOf(images.files)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* once(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** Layers' archives that are stored. */
const archives = (store: PrivateStore): number => [...store.blobs.digests()].length - 2

test('uncompressed layers are saved to the same bytes as before', () =>
  withImage('none', async (store) => {
    const before = await saved(store)
    const size = [...store.blobs.list()].reduce((sum, blob) => sum + blob.size, 0)
    const freed = await dropBlobs(store, { wait: true })
    assert.is(archives(store), 0)
    assert.ok(freed > 700_000 && freed < size)
    assert.ok((await saved(store)).equals(before))
    assert.equal(store.warnings, [])
  }))

test('compressed layers are packed again: another digest, the same image', () =>
  withImage('gzip', async (store, id) => {
    await dropBlobs(store, { wait: true })
    assert.is(archives(store), 0)
    const archive = await saved(store)
    assert.match(store.warnings.join(), /keeps its id but not its digest/)
    assert.ok((await saved(store)).equals(archive))
    using other = privateStore()
    const [loaded] = await loadArchive(other, once(archive))
    assert.is(loaded?.id, id)
    assert.equal((await checkStore(other, { roots: ROOTS })).damage, [])
    for (const diffId of inspectImage(store, id).image.diffIds) {
      const tree = (one: PrivateStore) =>
        statSync(join(one.layers.treePath(diffId), 'a'), { bigint: true })
      assert.is(tree(other).mtimeNs, tree(store).mtimeNs)
    }
    // Nothing of the packing stays.
    assert.equal(store.blobs.partial(), { bytes: 0, files: 0 })
  }))

test('a recipe is small: it holds what the tree has not', () =>
  withImage('gzip', async (store, id) => {
    await dropBlobs(store, { wait: true })
    const [diffId = ''] = inspectImage(store, id).image.diffIds
    // 3000 bytes through a link, 2000 of a name given twice, 4096 sparse; the rest is headers.
    assert.ok(statSync(store.layers.recipePath(diffId)).size < 14_000)
  }))

test('a check needs no archive, finds damage all the same, and a collection keeps what is left', () =>
  withImage('gzip', async (store, id) => {
    await dropBlobs(store, { wait: true })
    const good = await checkStore(store, { roots: ROOTS })
    assert.equal([good.damage, good.unverified], [[], []])
    await collect(store, { roots: ROOTS, wait: true, partials: true })
    await saved(store)
    const [diffId = ''] = inspectImage(store, id).image.diffIds
    writeFileSync(join(store.layers.treePath(diffId), 'a'), 'First\n')
    const bad = await checkStore(store, { roots: ROOTS })
    assert.equal(
      bad.damage.map(({ kind }) => kind),
      ['layer'],
    )
    // What is damaged is not given away.
    try {
      await saved(store)
      assert.unreachable('it was saved')
    } catch (error) {
      assert.match(String(error), /does not match its digest/)
    }
    assert.equal(store.blobs.partial(), { bytes: 0, files: 0 })
  }))

test('a spoilt recipe is found and removed; what it was for is told', () =>
  withImage('gzip', async (store, id) => {
    await dropBlobs(store, { wait: true })
    const [diffId = ''] = inspectImage(store, id).image.diffIds
    truncateSync(store.layers.recipePath(diffId), 300)
    const { damage } = await checkStore(store, { roots: ROOTS })
    assert.equal(
      damage.map(({ kind }) => kind),
      ['recipe'],
    )
    const [repair] = await repairStore(store, damage, { roots: ROOTS })
    assert.ok(repair?.isRepaired)
    assert.equal((await checkStore(store, { roots: ROOTS })).damage, [])
    try {
      await saved(store)
      assert.unreachable('it was saved')
    } catch (error) {
      assert.match(
        String(error),
        /is not kept here, only its unpacked tree: pull the image again with --blobs/,
      )
    }
  }))

test('an archive of another tree, or a tree that has changed, keeps its archive', () =>
  withImage('gzip', async (store, id) => {
    const [first = '', second = ''] = inspectImage(store, id).image.diffIds
    const blob = store.layers.get(first)?.blob as Digest
    writeFileSync(store.blobs.path(blob), tar([{ name: 'other', content: 'x' }]))
    await dropBlobs(store, { wait: true })
    assert.match(store.warnings.join(), /the archive of layer [0-9a-f]{12} stays/)
    assert.ok(store.blobs.has(blob))
    assert.not.ok(existsSync(store.layers.recipePath(first)))
    assert.ok(existsSync(store.layers.recipePath(second)))
  }))

test('somebody at work keeps the archives; the next call takes them', () =>
  withImage('gzip', async (store) => {
    {
      using _hold = await holdContent(store)
      assert.is(await dropBlobs(store, { wait: false }), 0)
      assert.is(archives(store), 2)
    }
    assert.ok((await dropBlobs(store, { wait: false })) > 0)
    assert.is(await dropBlobs(store, { wait: false }), 0)
  }))

test('what a proof was about and is no longer there keeps its archive', () =>
  withImage('gzip', async (store, id) => {
    const [first = '', second = ''] = inspectImage(store, id).image.diffIds
    let dropping: Promise<number>
    {
      using _hold = await holdContent(store)
      dropping = dropBlobs(store, { wait: true })
      await eventually('both are proven', () =>
        [first, second].every((diffId) => store.layers.fingerprint(diffId) !== undefined),
      )
      // As a repair does, between the proof and the moment when nobody else is at work.
      rmSync(store.layers.recipePath(first))
    }
    await dropping
    const blobs = [first, second].map((diffId) => store.layers.get(diffId)?.blob as Digest)
    assert.equal(
      blobs.map((blob) => store.blobs.has(blob)),
      [true, false],
    )
    await saved(store)
  }))

test('a damaged manifest costs only its own image the drop', () =>
  withImage('none', async (store, id) => {
    const other = join(store.directory, 'other')
    writeLayout(other, [{ name: 'q.io/b:1', layers: [[{ name: 'b', content: noise(9000) }]] }])
    const [loaded] = await loadArchive(store, other)
    const { manifest } = inspectImage(store, loaded?.id ?? '').image
    writeFileSync(store.blobs.path(manifest), '{}')
    assert.ok((await dropBlobs(store, { wait: true })) > 700_000)
    for (const diffId of inspectImage(store, id).image.diffIds) {
      assert.not.ok(store.blobs.has(diffId))
    }
  }))

test('who keeps the proofs makes each once, and tells of a failure once', () =>
  withImage('gzip', async (store, id) => {
    const [first = ''] = inspectImage(store, id).image.diffIds
    const bad = store.layers.get(first)?.blob as Digest
    writeFileSync(store.blobs.path(bad), tar([{ name: 'other', content: 'x' }]))
    const lock = store.layers.lock.bind(store.layers)
    let proofs = 0
    store.layers.lock = (diffId, signal) => {
      proofs++
      return lock(diffId, signal)
    }
    const known: Proofs = new Map()
    {
      using _hold = await holdContent(store)
      for (let i = 0; i < 3; i++) await dropBlobs(store, { wait: false, proofs: known })
    }
    assert.is(proofs, 2)
    assert.is(store.warnings.length, 1)
    assert.ok((await dropBlobs(store, { wait: false, proofs: known })) > 0)
    assert.equal([...known.keys()], [bad])
    // Another archive is another question.
    store.blobs.remove(bad)
    await dropBlobs(store, { wait: false, proofs: known })
    assert.equal([proofs, known.size], [2, 0])
  }))

test('what a writer beside a tree has left half written is debris, and is collected', () =>
  withImage('gzip', async (store, id) => {
    const [diffId = ''] = inspectImage(store, id).image.diffIds
    const layer = dirname(store.layers.treePath(diffId))
    const left = ['recipe', 'fingerprint'].map((name) => join(layer, `${name}.tmp-0123456789ab`))
    for (const path of left) writeFileSync(path, 'half')
    {
      using _writer = await store.layers.lock(diffId)
      await collect(store, { roots: ROOTS, wait: true, partials: true })
      assert.ok(left.every((path) => existsSync(path)))
    }
    const checked = await checkStore(store, { roots: ROOTS })
    assert.equal([checked.debris, checked.damage], [2, []])
    await collect(store, { roots: ROOTS, wait: true, partials: true })
    assert.not.ok(left.some((path) => existsSync(path)))
    assert.is((await checkStore(store, { roots: ROOTS })).debris, 0)
  }))

test('a recipe is read without being copied again and again', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'berth-recipe-'))
  // Contents that the tree has not: all of it is in the recipe, in steps of a MiB.
  const archive = tar([{ name: 'big', content: noise(4 * 1024 * 1024) }])
  const recipe = join(directory, 'recipe')
  await writeRecipe(recipe, directory, once(archive) as AsyncIterable<Buffer>, { durable: false })
  const { concat } = Buffer
  let copied = 0
  Buffer.concat = (list, size) => {
    const made = concat(list, size)
    copied += made.length
    return made
  }
  try {
    const hash = createHash('sha256')
    for await (const chunk of cook(recipe, directory)) hash.update(chunk)
    assert.is(hash.digest('hex'), createHash('sha256').update(archive).digest('hex'))
  } finally {
    Buffer.concat = concat
    rmSync(directory, { recursive: true })
  }
  assert.ok(copied < 2 * archive.length, `${copied} bytes were copied`)
})

test('a packing that is called off ends, and leaves nothing', () =>
  withImage('gzip', async (store, id) => {
    await dropBlobs(store, { wait: true })
    const { image } = inspectImage(store, id)
    const [diffId] = image.diffIds
    const [descriptor] = readManifest(store, image.manifest).manifest.layers
    if (diffId === undefined || descriptor === undefined) throw new Error('no layer')
    const signal = AbortSignal.abort(new Error('called off'))
    try {
      await layerBytes(store, { descriptor, diffId }, signal)
      assert.unreachable('it was packed')
    } catch (error) {
      assert.match(String(error), /called off/)
    }
    assert.equal(store.blobs.partial(), { bytes: 0, files: 0 })
  }))

test('a pull with the archives brings the exact ones again', async () => {
  const registry = await TestRegistry.start()
  try {
    using store = privateStore()
    const pushed = pushImage(registry, 'a', '1', { layers: LAYERS })
    await pullImage(store, pushed.name)
    await dropBlobs(store, { images: [pushed.id as Digest], wait: true })
    assert.is(archives(store), 0)
    await pullImage(store, pushed.name)
    assert.is(archives(store), 0)
    await pullImage(store, pushed.name, { blobs: true })
    for (const digest of pushed.layers) assert.ok(await store.blobs.isIntact(digest as Digest))
    rmSync(store.blobs.path(pushed.layers[0] as Digest))
    assert.ok(readFileSync(store.blobs.path(pushed.digest as Digest)).length > 0)
  } finally {
    await registry.stop()
  }
})

test.run()
