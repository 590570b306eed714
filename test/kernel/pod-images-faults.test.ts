/** A pull and a removal in which the nth kernel call of this process fails: what is left is whole, and the next try succeeds. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { openImages } from '../../src/engine/images.ts'
import * as images from '../../src/pod/images.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf } from '../lib/engine.ts'
import { withFault } from '../lib/faults.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root')

// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await (await TestRegistry.start()).stop()
const { berth, nothingIsLeft } = berthOfFile()
const engine = engineOf(berth)
const store = openImages(engine)
const registry = await TestRegistry.start()
const image = pushImage(registry, 'team/app', '1', {
  layers: [
    [
      { name: 'etc/', type: 'directory', mode: 0o711 },
      { name: 'etc/a', content: 'a' },
    ],
    // Without an entry for etc/: the chain needs a layer of its own that puts its mode right.
    [{ name: 'etc/b', content: 'b' }],
  ],
})
/** More calls than either makes. */
const CALLS_MAX = 1000
/** Not every call of a pull: each costs two pulls. The order of calls differs a little from run to run, so that all have their turn. */
const STRIDE = 4

const pull = (): Promise<string> =>
  images.pullImage(engine, image.name, { registries: { certsDirectories: [] } })

/** All that a removal should take. */
function leftovers(): string[] {
  return [
    ...images.listImages(engine).map(({ id }) => id),
    ...store.blobs.digests(),
    ...store.layers.list().map(({ diffId }) => diffId),
    ...store.layers.listFixups(),
    ...readdirSync(join(engine.root, 'images/ingest')),
    ...readdirSync(join(engine.root, 'layers/tmp')),
  ]
}

async function isWhole(said: string): Promise<void> {
  assert.equal(images.pullsUnderWay(engine), [], said)
  assert.is(await pull(), image.id, said)
  await images.useImage(engine, image.name, async ({ lower }) => {
    assert.is(lower.length, 3, said)
    for (const path of lower) assert.ok(existsSync(join(engine.root, path)), said)
  })
}

async function removeAll(said: string): Promise<void> {
  // A removal that failed may have taken the name only: the id then finds what is left, as a list shows it.
  await images.removeImage(engine, image.id)
  await images.collectSoon(engine, { partials: true })
  assert.equal(leftovers(), [], said)
}

test('a pull with a call that fails', async () => {
  let failures = 0
  for (let n = 1; n < CALLS_MAX; n += STRIDE) {
    const { failed, error, result } = await withFault(n, pull)
    const said = `call ${n}, ${failed}: ${error}`
    if (failed === undefined) {
      assert.is(result, image.id, said)
      assert.ok(failures > 20, `only ${failures} calls failed the pull`)
      return
    }
    if (error !== undefined) failures++
    await isWhole(said)
    await removeAll(said)
  }
  assert.unreachable('the pull has no end')
})

test('a removal with a call that fails', async () => {
  for (let n = 1; n < CALLS_MAX; n++) {
    await isWhole(`before ${n}`)
    const { failed, error } = await withFault(n, () => images.removeImage(engine, image.name))
    const said = `call ${n}, ${failed}: ${error}`
    await removeAll(said)
    if (failed === undefined) return
  }
  assert.unreachable('the removal has no end')
})

test('nothing is left behind', async () => {
  await registry.stop()
  await nothingIsLeft()
})

test.run()
