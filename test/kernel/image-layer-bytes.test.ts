/** What push and save get of a layer, whatever is left of it in the store. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  collect,
  gatherImages,
  inspectImage,
  layerBytes,
  pullImage,
  removeImage,
  withLayers,
} from '../../src/image/index.ts'
import { parseDocument } from '../../src/image/manifest.ts'
import type { Manifest } from '../../src/spec/image.ts'
import { type PrivateStore, privateStore } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { refused } from '../lib/refused.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

const registry = await TestRegistry.start()

const ROOTS = () => ({ images: [], layers: [] })
const ENTRIES = [{ name: 'file', content: 'the content of a layer '.repeat(1000) }]

function manifestOf(store: PrivateStore, name: string): { manifest: Manifest; id: string } {
  const { image } = inspectImage(store, name)
  const bytes = store.blobs.read(image.manifest, 1_000_000)
  const document = parseDocument(bytes, image.manifestMediaType, name)
  if (document.kind !== 'manifest') throw new Error('no manifest')
  return { manifest: document.manifest, id: image.id }
}

async function bytesOf(store: PrivateStore, name: string) {
  const { image } = inspectImage(store, name)
  const { manifest } = manifestOf(store, name)
  const [descriptor] = manifest.layers
  const [diffId] = image.diffIds
  if (!descriptor || !diffId) throw new Error('no layer')
  await using layer = await layerBytes(store, { descriptor, diffId })
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of layer.chunks()) {
    hash.update(chunk)
    size += chunk.length
  }
  assert.is(`sha256:${hash.digest('hex')}`, layer.descriptor.digest)
  assert.is(size, layer.descriptor.size)
  return { layer, descriptor, changed: withLayers(manifest, [layer]) }
}

test('a blob that was never fetched, since its tree was here, is given as the blob that made the tree', async () => {
  using store = privateStore()
  const first = pushImage(registry, 'a', '1', { layers: [ENTRIES] })
  const second = pushImage(registry, 'b', '1', {
    layers: [ENTRIES],
    level: 9,
    config: { Labels: { b: 'b' } },
  })
  assert.is.not(first.layers[0], second.layers[0])
  await pullImage(store, first.name)
  await pullImage(store, second.name)
  const own = await bytesOf(store, first.name)
  assert.ok(own.layer.isExact)
  assert.is(own.changed, undefined)
  // The first image goes; what made the tree stays for the second.
  await removeImage(store, first.name, { force: false, users: () => [], roots: ROOTS })
  await collect(store, { roots: ROOTS, wait: true, partials: true })
  const other = await bytesOf(store, second.name)
  assert.not.ok(other.layer.isExact)
  assert.is(other.layer.descriptor.digest, first.layers[0])
  assert.is(other.layer.descriptor.mediaType, other.descriptor.mediaType)
  assert.equal(other.changed?.layers, [other.layer.descriptor])
  // The exact one comes when it is asked for, and the other goes.
  await pullImage(store, second.name, { blobs: true })
  assert.ok((await bytesOf(store, second.name)).layer.isExact)
  await collect(store, { roots: ROOTS, wait: true, partials: true })
  assert.not.ok([...store.blobs.digests()].includes(first.layers[0] as never))
})

test('what has only its tree left is saved with the archive of its registry, and refused where that is gone', async () => {
  using store = privateStore()
  const own = await TestRegistry.start()
  const pushed = pushImage(own, 'only-tree', '1', { layers: [ENTRIES] })
  await pullImage(store, pushed.name)
  const { manifest } = manifestOf(store, pushed.name)
  const [layer] = manifest.layers
  if (!layer) throw new Error('no layer')
  // As after the removal of an image whose layer a build's cache has kept.
  store.blobs.remove(layer.digest)
  const names = async (): Promise<string[]> => {
    await using saved = await gatherImages(store, [pushed.name], { format: 'oci-archive' })
    return saved.files.map(({ name }) => name)
  }
  assert.ok((await names()).includes(`blobs/${layer.digest.replace(':', '/')}`))
  assert.is(store.blobs.size(layer.digest), layer.size)
  store.blobs.remove(layer.digest)
  await own.stop()
  await refused(names(), 'FAILED_PRECONDITION', /not kept here/)
})

test('a flipped bit is told, not handed on', async () => {
  using store = privateStore()
  const pushed = pushImage(registry, 'c', '1', { layers: [ENTRIES] })
  await pullImage(store, pushed.name)
  const { manifest } = manifestOf(store, pushed.name)
  const [layer] = manifest.layers
  if (!layer) throw new Error('no layer')
  writeFileSync(store.blobs.path(layer.digest), Buffer.alloc(layer.size))
  try {
    await bytesOf(store, pushed.name)
  } catch (error) {
    assert.match(String(error), /does not match its digest/)
    return
  }
  assert.unreachable('the damage was not seen')
})

test.after(() => registry.stop())
test.run()
