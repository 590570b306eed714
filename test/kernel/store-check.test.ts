/** `system check` finds every kind of damage, repairs what can be, and says where damage stays. */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  checkStore,
  collect,
  inspectImage,
  loadArchive,
  pullImage,
  repairStore,
} from '../../src/image/index.ts'
import type { Digest } from '../../src/spec/image.ts'
import { type PrivateStore, privateStore } from '../lib/image-store.ts'
import { tar, writeLayout } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

const NOBODY = () => ({ images: [], layers: [], chains: [] })
const ENTRIES = [
  { name: 'etc/', type: 'directory' as const, mode: 0o711, uid: 3 },
  { name: 'etc/file', content: 'content\n', xattrs: { 'user.note': 'kept' } },
  { name: 'etc/hard', type: 'hardlink' as const, to: 'etc/file' },
  { name: 'etc/soft', type: 'symlink' as const, to: 'file' },
  { name: 'implied/by/file', content: 'x' },
  { name: 'etc/.wh.gone', content: '' },
  { name: 'opaque/.wh..wh..opq', content: '' },
]

interface Loaded {
  store: PrivateStore
  id: Digest
  /** The one layer. */
  diffId: Digest
  tree: string
  blob: string
  record: string
}

async function withImage(use: (loaded: Loaded) => Promise<void>): Promise<void> {
  using store = privateStore()
  const layout = join(store.directory, 'layout')
  writeLayout(layout, [{ name: 'q.io/a:1', layers: [ENTRIES] }])
  await loadArchive(store, layout)
  const { image } = inspectImage(store, 'q.io/a:1')
  const [diffId] = image.diffIds
  if (diffId === undefined) throw new Error('no layer')
  const archive = store.layers.get(diffId)?.blob ?? ''
  await use({
    store,
    id: image.id,
    diffId,
    tree: store.layers.treePath(diffId),
    blob: store.blobs.path(archive as Digest),
    record: join(store.root, 'images/records', `${image.id.slice(7)}.json`),
  })
}

const check = (store: PrivateStore) => checkStore(store, { roots: NOBODY })

/** Finds the damage, repairs it, finds none then. */
async function repaired(store: PrivateStore, kinds: string[]): Promise<string[]> {
  const { damage } = await check(store)
  assert.equal(damage.map(({ kind }) => kind).sort(), kinds)
  const repairs = await repairStore(store, damage, { roots: NOBODY })
  for (const { isRepaired, outcome, damage: each } of repairs) {
    assert.ok(isRepaired, `${each.kind}: ${each.problem}: ${outcome}`)
  }
  assert.equal((await check(store)).damage, [])
  return repairs.map(({ outcome }) => outcome)
}

test('a good store is good, by its archives and without them', () =>
  withImage(async ({ store, blob, diffId }) => {
    assert.is(store.layers.fingerprint(diffId), undefined)
    const first = await check(store)
    assert.equal(first.damage, [])
    assert.equal([first.images, first.blobs, first.layers, first.unverified], [1, 3, 1, []])
    // What the archive has shown the tree to be is known after it.
    assert.ok(store.layers.fingerprint(diffId))
    rmSync(blob)
    assert.equal((await check(store)).damage, [])
  }))

test('without an archive and an earlier check a layer is told to be unverified', () =>
  withImage(async ({ store, blob, diffId }) => {
    rmSync(blob)
    const { damage, unverified } = await check(store)
    assert.equal([damage, unverified], [[], [diffId.slice(7)]])
  }))

const SPOIL: Record<string, (tree: string) => void> = {
  'a flipped byte': (tree) => writeFileSync(join(tree, 'etc/file'), 'Content\n'),
  'a longer file': (tree) => appendFileSync(join(tree, 'implied/by/file'), 'x'),
  'an empty file': (tree) => truncateSync(join(tree, 'implied/by/file')),
  'a missing file': (tree) => rmSync(join(tree, 'etc/soft')),
  'a missing whiteout': (tree) => rmSync(join(tree, 'etc/gone')),
  'a further file': (tree) => writeFileSync(join(tree, 'implied/more'), ''),
  'a further directory': (tree) => mkdirSync(join(tree, 'etc/more')),
  'another mode': (tree) => chmodSync(join(tree, 'etc'), 0o700),
  'another time': (tree) => utimesSync(join(tree, 'implied/by/file'), 1, 1),
  'a hard link that is a copy': (tree) => {
    const content = readFileSync(join(tree, 'etc/hard'))
    rmSync(join(tree, 'etc/hard'))
    writeFileSync(join(tree, 'etc/hard'), content)
  },
  'no tree': (tree) => rmSync(tree, { recursive: true }),
}

test('whatever is changed in a layer is found, and the layer unpacked again', () =>
  withImage(async ({ store, tree }) => {
    // The first time there is only the archive to go by.
    for (const [name, spoil] of Object.entries(SPOIL)) {
      spoil(tree)
      assert.equal(await repaired(store, ['layer']), ['unpacked again'], name)
      assert.is(readFileSync(join(tree, 'etc/file'), 'utf8'), 'content\n', name)
    }
  }))

test('the time of a directory that the archive does not name is no damage', () =>
  withImage(async ({ store, tree }) => {
    await check(store)
    utimesSync(join(tree, 'implied'), 1, 1)
    assert.equal((await check(store)).damage, [])
  }))

test('a damaged layer without an archive is removed, and stays damage until the image is pulled', () =>
  withImage(async ({ store, tree, blob }) => {
    await check(store)
    rmSync(blob)
    writeFileSync(join(tree, 'etc/file'), 'Content\n')
    const { damage } = await check(store)
    const repairs = await repairStore(store, damage, { roots: NOBODY })
    assert.equal(
      repairs.map(({ isRepaired }) => isRepaired),
      [false],
    )
    assert.match(repairs[0]?.outcome ?? '', /removed; no good archive .* pull the image again/)
    const after = await check(store)
    assert.equal(
      after.damage.map(({ kind }) => kind),
      ['image'],
    )
    const again = await repairStore(store, after.damage, { roots: NOBODY })
    assert.equal(
      again.map(({ isRepaired }) => isRepaired),
      [false],
    )
    await loadArchive(store, join(store.directory, 'layout'))
    assert.equal((await check(store)).damage, [])
  }))

test('a layer that a container uses is told and left as it is', () =>
  withImage(async ({ store, tree, diffId, id }) => {
    const roots = () => ({ images: [id], layers: [diffId], chains: [] })
    writeFileSync(join(tree, 'etc/file'), 'Content\n')
    const { damage } = await checkStore(store, { roots })
    const repairs = await repairStore(store, damage, { roots })
    assert.equal(
      repairs.map(({ isRepaired, outcome }) => [isRepaired, outcome]),
      [[false, 'a container uses it: remove the container first']],
    )
    assert.is(readFileSync(join(tree, 'etc/file'), 'utf8'), 'Content\n')
  }))

test('a half layer, and one whose record is cut off, are made whole', async () => {
  await withImage(async ({ store, tree }) => {
    rmSync(join(tree, '../meta.json'))
    await repaired(store, ['image', 'layer'])
  })
  await withImage(async ({ store, tree }) => {
    truncateSync(join(tree, '../meta.json'), 20)
    await repaired(store, ['image', 'layer'])
  })
  await withImage(async ({ store }) => {
    mkdirSync(join(store.root, 'layers/sha256', 'a'.repeat(64), 'tree'), { recursive: true })
    assert.equal(await repaired(store, ['layer']), ['removed; no image needs it'])
  })
})

test('a missing layer is unpacked from its archive', () =>
  withImage(async ({ store, tree }) => {
    rmSync(join(tree, '..'), { recursive: true })
    await repaired(store, ['image'])
    assert.ok(existsSync(tree))
  }))

test('a flipped byte in a layer’s archive costs the archive, not the layer', () =>
  withImage(async ({ store, blob, tree }) => {
    await check(store)
    const bytes = readFileSync(blob)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0x10
    writeFileSync(blob, bytes)
    assert.equal(await repaired(store, ['blob']), ['removed'])
    assert.ok(existsSync(tree))
    assert.not.ok(existsSync(blob))
  }))

test('archive and tree damaged at once: the tree is not made of the bad archive', () =>
  withImage(async ({ store, blob, tree }) => {
    await check(store)
    truncateSync(blob, 10)
    writeFileSync(join(tree, 'etc/file'), 'Content\n')
    const { damage } = await check(store)
    assert.equal(damage.map(({ kind }) => kind).sort(), ['blob', 'layer'])
    const repairs = await repairStore(store, damage, { roots: NOBODY })
    assert.equal(
      repairs.map(({ isRepaired }) => isRepaired),
      [true, false],
    )
  }))

test('a truncated record is made again of the image’s documents', () =>
  withImage(async ({ store, record, id }) => {
    const before = readFileSync(record, 'utf8')
    truncateSync(record, 30)
    assert.equal(await repaired(store, ['catalog', 'catalog']), ['made again', 'it is good again'])
    assert.is(readFileSync(record, 'utf8'), before)
    assert.equal(inspectImage(store, 'q.io/a:1').image.id, id)
  }))

test('a record that cannot be made again, and a cut name, are removed', async () => {
  await withImage(async ({ store, record }) => {
    rmSync(join(store.root, 'images/names'), { recursive: true })
    mkdirSync(join(store.root, 'images/names'))
    writeFileSync(record, '{}')
    assert.equal(await repaired(store, ['catalog']), ['removed: pull or load the image again'])
  })
  await withImage(async ({ store, id }) => {
    const [name = ''] = readdirSync(join(store.root, 'images/names'))
    truncateSync(join(store.root, 'images/names', name), 10)
    assert.equal(await repaired(store, ['catalog']), ['removed: the name is gone'])
    assert.equal(store.catalog.get(id).names, [])
  })
})

test('a record under another’s name is damage', () =>
  withImage(async ({ store, record }) => {
    renameSync(record, join(record, '..', `${'b'.repeat(64)}.json`))
    const { damage } = await check(store)
    assert.equal(
      damage.map(({ kind }) => kind),
      ['catalog', 'catalog'],
    )
  }))

test('a lost document is told as its image’s, and pulled again', async () => {
  const registry = await TestRegistry.start()
  try {
    using store = privateStore()
    const pushed = pushImage(registry, 'a', '1', { layers: [ENTRIES] })
    await pullImage(store, pushed.name)
    assert.equal((await check(store)).damage, [])
    rmSync(store.blobs.path(pushed.digest as Digest))
    const { damage } = await check(store)
    assert.ok(damage.length > 0 && damage.every(({ kind }) => kind === 'image'))
    const repairs = await repairStore(store, damage, { roots: NOBODY })
    assert.ok(repairs.every(({ isRepaired }) => !isRepaired))
    await pullImage(store, pushed.name)
    assert.equal((await check(store)).damage, [])
  } finally {
    await registry.stop()
  }
})

test('what cut-off work left is no damage; a repair takes it away', () =>
  withImage(async ({ store }) => {
    mkdirSync(join(store.root, 'layers/tmp/0123456789abcdef/tree'), { recursive: true })
    writeFileSync(join(store.root, 'images/ingest', `sha256-${'c'.repeat(64)}`), 'part')
    const { damage, debris } = await check(store)
    assert.equal([damage, debris], [[], 2])
    await collect(store, { roots: NOBODY, wait: true, partials: true })
    assert.is((await check(store)).debris, 0)
  }))

test('an image that names a wrong archive for a layer costs that layer nothing', () =>
  withImage(async ({ store, blob, tree }) => {
    // The archive's bytes are replaced by a good one of something else: the blob is told, the tree is not judged by it.
    writeFileSync(blob, tar([{ name: 'other', content: '' }]))
    const { damage, unverified } = await check(store)
    assert.equal(
      damage.map(({ kind }) => kind),
      ['blob'],
    )
    assert.is(unverified.length, 1)
    assert.ok(existsSync(tree))
  }))

test.run()
