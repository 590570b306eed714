/**
 * What test/kernel/power-cut.test.ts runs in a machine whose disk outlives it, boot after boot: it looks at what the last power cut has left, tells it in
 * one line of JSON behind a mark, and works on the store until it cuts the power itself.
 */
import { execFileSync } from 'node:child_process'
import { fsyncSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe } from '../../src/base/fault.ts'
import { checkStore, openStore, pruneImages, pullImage } from '../../src/image/index.ts'
import { storeContent } from './image-store.ts'
import { writeLayout } from './images.ts'
import { Random } from './random.ts'
import { TestRegistry } from './registry.ts'
import { pushImage } from './registry-image.ts'
import { workOn } from './store-works.ts'

export const MARK = 'result: '
const DISK = '/run/power-disk'
const EARLIEST_MS = 200
const LATEST_MS = 4000
const WORKS = ['pull', 'pull', 'pull', 'load', 'commit', 'commit', 'rmi', 'gc', 'prune'] as const
const ROOTS = () => ({ images: [], layers: [], chains: [] })

export interface Seen {
  /** Problems, right after the boot. */
  readonly damage: readonly string[]
  /** Images, layers and parts that the cut has left: whether anything was under way. */
  readonly images: number
  readonly layers: number
  readonly debris: number
  /** After the pull of both images. */
  readonly damageThen: readonly string[]
  /** After a prune. */
  readonly left: readonly string[]
}

const SHARED = Array.from({ length: 30 }, (_, i) => ({
  name: `etc/${i}`,
  content: `${i}`.repeat(999),
}))

/** Small enough to go to the disk together. */
const TINY = Array.from({ length: 8 }, (_, i) => [{ name: `tiny/${i}`, content: `${i}` }])

async function main(seed: number): Promise<void> {
  mkdirSync(DISK)
  // What is not synced reaches the disk soon as well, in part and in an order of its own: that is what a cut leaves.
  execFileSync('mount', ['-t', 'ext4', '-o', 'commit=1', '/dev/ubda', DISK])
  const store = openStore(join(DISK, 'root'))
  const registry = await TestRegistry.start()
  const images = ['a', 'b'].map((name) =>
    pushImage(registry, name, '1', {
      layers: [SHARED, [{ name: `etc/${name}`, content: name.repeat(200_000) }], ...TINY],
      config: { Labels: { name } },
    }),
  )
  const layout = '/run/layout'
  writeLayout(layout, [{ name: 'q.io/c:1', layers: [SHARED, [{ name: 'own', content: 'c' }]] }])
  const problems = async (): Promise<string[]> =>
    (await checkStore(store, { roots: ROOTS })).damage.map(
      (each) => `${each.kind}: ${each.problem}`,
    )

  const found = await checkStore(store, { roots: ROOTS })
  const damage = found.damage.map((each) => `${each.kind}: ${each.problem}`)
  for (const { name } of images) await pullImage(store, name)
  const damageThen = await problems()
  await pruneImages(store, { all: true, roots: ROOTS })
  const left = storeContent(store)
  const { images: imageCount, layers, debris } = found
  const seen: Seen = { damage, images: imageCount, layers, debris, damageThen, left }
  process.stdout.write(`${MARK}${JSON.stringify(seen)}\n`)
  fsyncSync(1)

  const random = new Random(seed)
  // Nothing is written to the disk any more that is in memory only.
  setTimeout(
    () => writeFileSync('/proc/sysrq-trigger', 'o'),
    random.between(EARLIEST_MS, LATEST_MS),
  )
  for (;;) {
    const name = images[random.between(0, 1)]?.name ?? ''
    const work = WORKS[random.between(0, WORKS.length - 1)] ?? 'pull'
    try {
      await workOn(store, work, work === 'load' ? layout : name)
    } catch (error) {
      if (!describe(error).includes('there is no image')) throw error
    }
    // The timer's turn.
    await delay(0)
  }
}

// The test imports the mark.
if (process.argv[1] === fileURLToPath(import.meta.url)) await main(Number(process.argv[2]))
