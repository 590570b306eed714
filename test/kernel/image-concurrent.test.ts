import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { inspectImage, pullImage } from '../../src/image/index.ts'
import { berthOfFile } from '../lib/berth.ts'
import { collectGarbage } from '../lib/collect-garbage.ts'
import { CuttingProxy } from '../lib/cutting-proxy.ts'
import { privateStore } from '../lib/image-store.ts'
import type { TarEntry } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { Random } from '../lib/random.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

const SEED = 20_261_126
const SETTINGS = { certsDirectories: [], registriesPaths: [] }
const PULLS = 20
const IMAGES = 5
const MIB = 1024 * 1024
const { berth, nothingIsLeft } = berthOfFile()

function layer(name: string, bytes: number): TarEntry[] {
  const random = new Random(SEED + name.length)
  const block = Buffer.from(Array.from({ length: 65_521 }, () => random.between(0, 255)))
  return [{ name, content: Buffer.alloc(bytes, block) }]
}

/** Images that share layers: the first with all, the second with the next two, and so on; one layer of each own. */
function overlapping(registry: TestRegistry, bytes: number): string[] {
  const shared = Array.from({ length: IMAGES }, (_, i) => layer(`shared-${'x'.repeat(i)}`, bytes))
  return Array.from({ length: IMAGES }, (_, i) => {
    const own = layer(`own-${'y'.repeat(i)}`, bytes)
    const layers = [shared[0] ?? own, shared[i] ?? own, own].slice(i === 0 ? 1 : 0)
    return pushImage(registry, `team/app${i}`, '1', { layers }).name
  })
}

/** How often each blob was asked for. */
function fetches(registry: TestRegistry): number[] {
  const counts = new Map<string, number>()
  for (const { path, method } of registry.seen) {
    const digest = /\/blobs\/(sha256:[0-9a-f]+)/.exec(path)?.[1]
    if (digest === undefined || method !== 'GET') continue
    counts.set(digest, (counts.get(digest) ?? 0) + 1)
  }
  return [...counts.values()]
}

test('20 pulls at once in one process fetch each blob once, in bounded memory', async () => {
  using store = privateStore()
  const registry = await TestRegistry.start()
  try {
    const names = overlapping(registry, 12 * MIB)
    // What the making of the images has left is no room for the pulls to use.
    collectGarbage()
    const before = process.memoryUsage().rss
    let peak = before
    const timer = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss)
    }, 20)
    const work = Array.from({ length: PULLS }, (_, i) =>
      pullImage(store, names[i % IMAGES] ?? '', { ...SETTINGS, blobs: true }),
    )
    await Promise.all(work)
    clearInterval(timer)
    assert.ok(
      fetches(registry).every((count) => count === 1),
      `${fetches(registry)}`,
    )
    // 20 times three layers are 720 MiB; the registry, which is in this process too, holds what it sends.
    const grown = (peak - before) / MIB
    assert.ok(grown < 200, `${grown} MiB more were in use`)
    for (const name of names) assert.ok(inspectImage(store, name).image.id)
  } finally {
    await registry.stop()
  }
})

test('20 pulls at once in processes of their own fetch each blob once', async () => {
  const registry = await TestRegistry.start()
  try {
    const names = overlapping(registry, 200_000)
    const work = Array.from({ length: PULLS }, (_, i) =>
      berth.ok(['pull', '--quiet', names[i % IMAGES] ?? '']),
    )
    const ids = await Promise.all(work)
    assert.is(new Set(ids).size, IMAGES)
    assert.ok(
      fetches(registry).every((count) => count === 1),
      `${fetches(registry)}`,
    )
  } finally {
    await registry.stop()
  }
})

test('a pull whose connections are cut at 100 random places fetches no byte of a layer twice', async () => {
  using store = privateStore()
  const registry = await TestRegistry.start()
  const bytes = 4 * MIB
  const { layers, id } = pushImage(registry, 'team/app', '1', { layers: [layer('big', bytes)] })
  const random = new Random(SEED)
  const options = { cuts: 100, bytesMax: 60_000, random }
  const proxy = await CuttingProxy.start(registry.host, options)
  try {
    const pulled = await pullImage(store, `${proxy.host}/team/app:1`, SETTINGS)
    assert.is(pulled.id, id)
  } finally {
    await Promise.all([proxy.stop(), registry.stop()])
  }
  assert.is(proxy.cutsLeft, 0)
  assert.ok(registry.count(layers[0] ?? '') > 50)
  // Beside the layer: headers, manifest and configuration, each perhaps more than once.
  assert.ok(proxy.received < bytes + 300_000, `${proxy.received} bytes came`)
})

test('nothing is left behind', nothingIsLeft)

test.run()
