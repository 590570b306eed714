/** Small layers wait for the disk together, none counts before it is there, and nobody waits for ever. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { machineArchitecture } from '../../rootfs/layout.ts'
import { checkStore, type ImageStore, openStore, pullImage } from '../../src/image/index.ts'
import { binding } from '../../src/kernel/binding.ts'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { tar } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { sha256, TestRegistry } from '../lib/registry.ts'
import { type PushedImage, pushImage } from '../lib/registry-image.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root')

const directory = testDirectory()
const clean = traces({ roots: [directory] })
const LAYERS = 50
const SETTINGS = { certsDirectories: [], registriesPaths: [] }
const registry = await TestRegistry.start()
const layers = Array.from({ length: LAYERS }, (_, i) => [{ name: `file-${i}`, content: `${i}` }])
const forth = pushImage(registry, 'team/forth', '1', { layers })
const back = pushImage(registry, 'team/back', '1', { layers: layers.toReversed() })

const addon = binding as { syncfs: (fd: number) => Promise<void> }
const real = addon.syncfs

/** With each syncfs handed to `sync`, which does it or not. */
async function syncing<T>(sync: (fd: number) => Promise<void>, act: () => Promise<T>): Promise<T> {
  addon.syncfs = sync
  try {
    return await act()
  } finally {
    addon.syncfs = real
  }
}

let stores = 0
/** As users have it: on the disk before it counts. */
function freshStore(): ImageStore {
  return openStore(join(directory, String(stores++)))
}

async function isWhole(store: ImageStore): Promise<void> {
  const roots = () => ({ images: [], layers: [], chains: [] })
  assert.equal((await checkStore(store, { roots })).damage, [])
}

test(`${LAYERS} small layers wait for a few syncs, which come before the first of them counts`, async () => {
  const store = freshStore()
  let count = 0
  const sync = async (fd: number): Promise<void> => {
    const before = store.layers.names()
    count++
    await real(fd)
    assert.equal(store.layers.names(), before)
  }
  await syncing(sync, () => pullImage(store, forth.name, SETTINGS))
  // One, but for a machine on which 50 requests take seconds.
  assert.ok(count > 0 && count <= LAYERS / 5, `${count} syncs`)
  await isWhole(store)
})

test('a sync that fails leaves no layer and no blob of one; the next pull completes', async () => {
  const store = freshStore()
  const fail = (): Promise<void> => Promise.reject(new Error('EIO: the disk is broken'))
  const pull = () => pullImage(store, forth.name, SETTINGS)
  const message = await syncing(fail, pull).then(String, (error: Error) => error.message)
  assert.match(message, /the disk is broken/)
  assert.equal(store.layers.names(), [])
  // The configuration has come before the layers.
  assert.equal([...store.blobs.digests()], [forth.id])
  assert.equal(store.catalog.list(), [])
  assert.is((await pull()).id, forth.id)
  await isWhole(store)
})

test('pulls that want the same layers in another order do not wait for each other for ever', async () => {
  const store = freshStore()
  const pull = ({ name }: PushedImage) => pullImage(store, name, { ...SETTINGS, blobs: true })
  await Promise.all([forth, back, forth, back].map(pull))
  await isWhole(store)
})

test('two blobs of one tree, in one image', async () => {
  const store = freshStore()
  const archive = tar([{ name: 'file', content: 'same' }])
  const blobs = [0, 9].map((level) => registry.blob('team/twice', gzipSync(archive, { level })))
  assert.is.not(blobs[0]?.digest, blobs[1]?.digest)
  const config = registry.blob(
    'team/twice',
    Buffer.from(
      JSON.stringify({
        architecture: machineArchitecture(),
        os: 'linux',
        config: {},
        rootfs: { type: 'layers', diff_ids: blobs.map(() => sha256(archive)) },
      }),
    ),
  )
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, ...config },
    layers: blobs.map((blob) => ({ mediaType: MEDIA_TYPES.ociLayerGzip, ...blob })),
  }
  registry.manifest('team/twice', '1', manifest, MEDIA_TYPES.ociManifest)
  const options = { ...SETTINGS, blobs: true }
  const pulled = await pullImage(store, `${registry.host}/team/twice:1`, options)
  assert.is(pulled.id, config.digest)
  const stored: string[] = [...store.blobs.digests()]
  for (const { digest } of blobs) assert.ok(stored.includes(digest))
  await isWhole(store)
})

test('registry and stores end', async () => {
  await registry.stop()
  rmSync(directory, { recursive: true })
})

test('nothing is left behind', clean)

test.run()
