import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ImageStore, importImage, loadArchive } from '../../src/image/index.ts'
import { privateStore } from '../lib/image-store.ts'
import { tar, writeDockerArchive } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { imageSchemas } from '../lib/schemas.ts'

needs('root')

const ENTRIES = [{ name: 'file', content: 'content\n' }]

/** The manifest and the configuration of the only image, as the schemas see them. */
function judged(store: ImageStore): string[] {
  const [image] = store.catalog.list()
  if (image === undefined) throw new Error('no image')
  const json = (digest: string): unknown =>
    JSON.parse(store.blobs.read(digest as typeof image.id, 1 << 20).toString())
  return [
    ...imageSchemas.violations('image-manifest-schema', json(image.manifest)),
    ...imageSchemas.violations('config-schema', json(image.id)),
  ]
}

test('the manifest that is made for a docker-archive is valid', async () => {
  using store = privateStore()
  const path = join(store.directory, 'docker.tar')
  writeDockerArchive(path, [{ name: 'x:1', layers: [ENTRIES, ENTRIES] }])
  await loadArchive(store, path)
  assert.equal(judged(store), [])
})

for (const [kind, pack] of [
  ['plain', (bytes: Buffer) => bytes],
  ['gzip', (bytes: Buffer) => gzipSync(bytes)],
] as const) {
  test(`what the import of a ${kind} archive writes is valid`, async () => {
    using store = privateStore()
    const path = join(store.directory, 'root.tar')
    writeFileSync(path, pack(tar(ENTRIES)))
    await importImage(store, path, {
      created: '2026-01-01T00:00:00Z',
      message: 'x',
      config: { Cmd: ['/x'], ExposedPorts: { '80/tcp': {} }, Volumes: { '/v': {} } },
    })
    assert.equal(judged(store), [])
  })
}

test.run()
