import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import * as assert from 'uvu/assert'
import {
  checkStore,
  type ImageStore,
  inspectImage,
  loadArchive,
  openStore,
  pruneImages,
  pullImage,
} from '../../src/image/index.ts'
import { fingerprintTree } from '../../src/layer/fingerprint.ts'
import { storeContent } from './image-store.ts'
import { REPOSITORY, writeLayout } from './images.ts'
import { Random } from './random.ts'
import { TestRegistry } from './registry.ts'
import { pushImage } from './registry-image.ts'
import type { Order } from './store-work.ts'
import { testDirectory } from './traces.ts'

/** Stores that are worked on side by side: one for each of two cores. */
const LANES = 2
const SEED = Number(process.env['BERTH_TEST_SEED'] ?? 4)
/** How often a file kills. */
export const KILLS = Number(process.env['BERTH_CRASH_KILLS'] ?? 50)
const ROOTS = () => ({ images: [], layers: [], chains: [] })

const directory = testDirectory()
const layout = join(directory, 'layout')
const registry = await TestRegistry.start()
const SHARED = [
  { name: 'etc/', type: 'directory' as const, mode: 0o711 },
  ...Array.from({ length: 20 }, (_, i) => ({ name: `etc/${i}`, content: `${i}`.repeat(1000) })),
]
const images = ['a', 'b'].map((name) =>
  pushImage(registry, name, '1', {
    layers: [SHARED, [{ name: `etc/${name}`, content: name.repeat(50_000) }]],
    config: { Labels: { name } },
  }),
)
writeLayout(layout, [{ name: 'q.io/loaded:1', layers: [SHARED, [{ name: 'own', content: 'x' }]] }])

/** A process that has loaded berth and waits for its order. */
class Worker {
  static readonly all = new Set<Worker>()
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #ended: Promise<string | null>

  constructor() {
    const program = join(REPOSITORY, 'dist/test/lib/store-work.js')
    this.#child = spawn(process.execPath, [program], { stdio: 'pipe' })
    this.#child.stderr.pipe(process.stderr)
    Worker.all.add(this)
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
    this.#ended = new Promise((resolve) => this.#child.once('exit', (_, signal) => resolve(signal)))
  }

  end(): void {
    this.#child.kill('SIGKILL')
  }

  ready(): Promise<unknown> {
    return this.#lines.next()
  }

  /** Kernel calls of the work; undefined where it was killed. */
  async work(order: Order, killAfterMs?: number): Promise<number | undefined> {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`)
    const timer =
      killAfterMs === undefined
        ? undefined
        : setTimeout(() => this.#child.kill('SIGKILL'), killAfterMs)
    const answer = await this.#lines.next()
    clearTimeout(timer)
    this.#child.stdin.end()
    const signal = await this.#ended
    if (answer.done !== true) return Number(answer.value)
    assert.is(signal, 'SIGKILL', `${order.work} failed`)
    return undefined
  }
}

/** What each work takes, measured once: kernel calls and milliseconds. */
const measured = new Map<Order['work'], { calls: number; ms: number }>()
/** What each tree is when it was unpacked in peace. */
const good = new Map<string, string>()

function order(work: Order['work'], root: string, random: Random): Order {
  const name = images[random.between(0, 1)]?.name ?? ''
  return { work, root, name: work === 'load' ? layout : work === 'import' ? 'x' : name, dieAt: 0 }
}

/** Brings about what the work begins with. */
async function prepare(store: ImageStore, { work, name }: Order): Promise<void> {
  if (['commit', 'tag', 'rmi'].includes(work)) await pullImage(store, name)
}

async function isWhole(store: ImageStore, what: string): Promise<void> {
  // What the tree must be is known: nothing needs to be unpacked for the comparison.
  for (const { diffId } of store.layers.list()) {
    store.layers.setFingerprint(diffId, good.get(diffId) ?? '')
  }
  const { damage } = await checkStore(store, { roots: ROOTS })
  assert.equal(damage, [], what)
}

/** Does each work once, in peace: how long it is, and what the trees are then. */
export async function measure(works: readonly Order['work'][]): Promise<void> {
  const root = join(directory, 'measured')
  const store = openStore(root, { durable: false })
  const random = new Random(SEED)
  for (const work of new Set(works)) {
    const one = order(work, root, random)
    await prepare(store, one)
    const worker = new Worker()
    await worker.ready()
    const begin = performance.now()
    const calls = await worker.work(one)
    measured.set(work, { calls: calls ?? 0, ms: performance.now() - begin })
    for (const { diffId, implicit } of store.layers.list()) {
      good.set(diffId, await fingerprintTree(store.layers.treePath(diffId), implicit))
    }
  }
  await loadArchive(store, layout)
  for (const { name } of images) await pullImage(store, name)
  for (const { diffId, implicit } of store.layers.list()) {
    good.set(diffId, await fingerprintTree(store.layers.treePath(diffId), implicit))
  }
  await isWhole(store, 'measured')
  for (const [work, { calls }] of measured) assert.ok(calls > 5, `${work}: ${calls}`)
}

async function lane(number: number, works: readonly Order['work'][], kills: number): Promise<void> {
  const root = join(directory, `lane-${number}`)
  mkdirSync(root)
  const random = new Random(SEED + number)
  let next = new Worker()
  for (let i = 0, killed = 0; killed < kills; i++) {
    assert.ok(i < kills * 4, 'too few works are killed')
    const worker = next
    await worker.ready()
    const work = works[random.between(0, works.length - 1)] ?? 'pull'
    const { calls, ms } = measured.get(work) ?? { calls: 100, ms: 100 }
    const one = order(work, root, random)
    const store = openStore(root, { durable: false })
    await prepare(store, one)
    const isCounted = random.chance(0.6)
    const at = isCounted ? random.between(1, calls) : random.next() * ms
    const what = `seed ${SEED}, lane ${number}, kill ${i}: ${work} at ${isCounted ? `call ${at}` : `${at} ms`}`
    const done = isCounted ? worker.work({ ...one, dieAt: at }) : worker.work(one, at)
    if ((await done) === undefined) killed++
    next = new Worker()
    // Opened anew, as the next command does.
    const after = openStore(root, { durable: false })
    after.catalog.list()
    await isWhole(after, what)
    for (const { name, id, diffIds } of images) {
      if (name !== one.name && random.chance(0.7)) continue
      assert.is((await pullImage(after, name)).id, id, what)
      assert.equal([...inspectImage(after, name).image.diffIds], [...diffIds], what)
    }
    await isWhole(after, `${what}, pulled again`)
    if (random.chance(0.2)) await isEmptied(after, what)
  }
  next.end()
  await isEmptied(openStore(root, { durable: false }), 'the end')
}

/** Nothing that a killed one left escapes a prune. */
async function isEmptied(store: ImageStore, what: string): Promise<void> {
  await pruneImages(store, { all: true, roots: ROOTS })
  assert.equal(storeContent(store), [], what)
}

/**
 * kill -9 of these works at so many points, drawn by a seed. More than half are before a kernel call, counted, so that each short step is hit;
 * the rest are moments, so that the threads that unpack are hit too. After each the store is opened, is whole, and the pull completes on
 * what is left; in the end nothing is left.
 */
export async function killAtPoints(works: readonly Order['work'][], kills: number): Promise<void> {
  await Promise.all(Array.from({ length: LANES }, (_, i) => lane(i, works, kills / LANES)))
}

/** Ends what this file has started. */
export async function endKilling(): Promise<void> {
  for (const worker of Worker.all) worker.end()
  await registry.stop()
  rmSync(directory, { recursive: true, force: true })
}
