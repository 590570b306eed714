import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Engine, openEngine } from '../../src/engine/open.ts'
import * as images from '../../src/pod/images.ts'
import { berthOfFile } from '../lib/berth.ts'
import type { TarEntry } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { TestRegistry } from '../lib/registry.ts'
import { pushImage } from '../lib/registry-image.ts'

needs('root', 'program:mount')

// libuv opens /dev/null for itself with a process's first socket: that is none of ours to find.
await (await TestRegistry.start()).stop()
const { berth, nothingIsLeft } = berthOfFile()
const disk = join(berth.directory, 'disk')

/** A node whose images are on a small disk of their own. */
async function onDisk(
  bytes: number,
  use: (engine: Engine, registry: TestRegistry) => Promise<void>,
): Promise<void> {
  mkdirSync(disk, { recursive: true })
  assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', disk]).status, 0)
  const registry = await TestRegistry.start()
  try {
    const root = join(disk, 'root')
    await use(openEngine({ root, state: berth.state, warn: () => undefined }), registry)
  } finally {
    await registry.stop()
    assert.is(spawnSync('umount', [disk]).status, 0)
  }
}

const pull = (engine: Engine, name: string): Promise<string> =>
  images.pullImage(engine, name, { registries: { certsDirectories: [] } })

const layer = (name: string, bytes: number): TarEntry[] => [
  { name, content: Buffer.alloc(bytes, name) },
]
const MIB = 1024 * 1024

test('a pull that fills the disk fails, gives back what it took, and leaves room for the next', () =>
  onDisk(8 * MIB, async (engine, registry) => {
    const small = pushImage(registry, 'small', '1', { layers: [layer('s', MIB)] })
    // The first layers fit and are stored; the last one does not.
    const large = pushImage(registry, 'large', '1', {
      layers: [layer('a', MIB), layer('b', MIB), layer('c', 4 * MIB)],
    })
    await pull(engine, small.name)
    const before = await images.imageFsInfo(engine)
    try {
      await pull(engine, large.name)
      assert.unreachable('it fitted')
    } catch (error) {
      assert.is((error as { code?: string }).code, 'RESOURCE_EXHAUSTED', String(error))
    }
    const after = await images.imageFsInfo(engine)
    assert.is(after.images.usedBytes, before.images.usedBytes)
    assert.equal(
      images.listImages(engine).map(({ id }) => id),
      [small.id],
    )
    const other = pushImage(registry, 'other', '1', { layers: [layer('o', MIB)] })
    assert.is(await pull(engine, other.name), other.id)
  }))

test('on a full disk images are listed, found and removed', () =>
  onDisk(8 * MIB, async (engine, registry) => {
    const { name, id, diffIds } = pushImage(registry, 'app', '1', { layers: [layer('a', MIB)] })
    await pull(engine, name)
    const filler = join(disk, 'filler')
    spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4096'])
    assert.is((await images.imageFsInfo(engine)).device.availableBytes, 0)
    assert.is(images.listImages(engine)[0]?.id, id)
    assert.is(images.imageStatus(engine, name)?.image.id, id)
    await images.removeImage(engine, name)
    assert.equal(images.listImages(engine), [])
    const tree = `layers/sha256/${(diffIds[0] ?? '').slice(7)}`
    assert.not.ok(existsSync(join(engine.root, tree)))
    assert.ok((await images.imageFsInfo(engine)).device.availableBytes > 2 * MIB)
  }))

test('nothing is left behind', nothingIsLeft)

test.run()
