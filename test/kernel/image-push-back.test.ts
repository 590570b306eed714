/** A push whose layers' archives were dropped: they come back from where the image was pulled, or others of the same content go in their place. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { dropBlobs, pullImage, pushImage } from '../../src/image/index.ts'
import type { Digest } from '../../src/spec/image.ts'
import { type PrivateStore, privateStore } from '../lib/image-store.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { type PushedImage, pushImage as putImage } from '../lib/registry-image.ts'

needs('root')

const LAYERS = Array.from({ length: 9 }, (_, i) => [{ name: `${i}`, content: `${i}`.repeat(9000) }])

interface Case {
  readonly store: PrivateStore
  readonly from: TestRegistry
  readonly image: PushedImage
  readonly settings: { certsDirectories: string[]; registriesPaths: string[] }
  /** Its digest at the other registry. */
  push(): Promise<string>
}

/** An image pulled and without its archives, and another registry that wants it. */
async function withDropped(use: (one: Case) => Promise<void>): Promise<void> {
  const from = await TestRegistry.start()
  const to = await TestRegistry.start()
  try {
    using store = privateStore()
    const certs = join(store.directory, 'certs.d')
    const settings = { certsDirectories: [certs], registriesPaths: [] }
    const image = putImage(from, 'team/app', '1', { layers: LAYERS })
    await pullImage(store, image.name, settings)
    await dropBlobs(store, { wait: true })
    assert.ok(image.layers.every((digest) => !store.blobs.has(digest as Digest)))
    const push = async (): Promise<string> =>
      (await pushImage(store, image.name, `${to.host}/copy:1`, settings)).digest
    await use({ store, from, image, settings, push })
  } finally {
    await from.stop()
    await to.stop()
  }
}

test('what the part of a killed attempt has spoilt is fetched anew', () =>
  withDropped(async ({ store, image, push }) => {
    const [first = ''] = image.layers
    const part = join(store.root, 'images', 'ingest', first.replace(':', '-'))
    writeFileSync(part, Buffer.alloc(5000, 'x'))
    assert.is(await push(), image.digest)
    assert.equal(store.warnings, [])
  }))

test('a source that cannot even be asked is no end of the push', () =>
  withDropped(async ({ store, from, image, settings, push }) => {
    const [certs = ''] = settings.certsDirectories
    mkdirSync(join(certs, from.host), { recursive: true })
    writeFileSync(join(certs, from.host, 'hosts.toml'), 'server = [')
    assert.is.not(await push(), image.digest)
    assert.match(store.warnings.join(), /keeps its id but not its digest/)
  }))

test('a source that does not answer is not asked for each layer again', () =>
  withDropped(async ({ from, image, push }) => {
    const asked = new Set<string>()
    from.behave = ({ path }, response) => {
      asked.add(path)
      response.writeHead(503).end()
      return true
    }
    assert.is.not(await push(), image.digest)
    // Those that are sent at once ask at once.
    assert.ok(asked.size <= 3, [...asked].join())
  }))

test.run()
