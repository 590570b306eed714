import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault } from '../base/fault.ts'
import { fingerprintTree } from '../layer/fingerprint.ts'
import { type LayerInfo, LayerStore } from '../layer/store.ts'
import { unpackLayer } from '../layer/unpack.ts'
import type { Digest } from '../spec/image.ts'
import type { CatalogFile, ImageRecord } from './catalog.ts'
import type { Roots } from './collect.ts'
import { digestIn } from './digest.ts'
import { layersIfReadable, readManifest } from './inspect.ts'
import { archiveFromTree } from './layer-bytes.ts'
import { CONFIG_BYTES_MAX, parseConfig } from './manifest.ts'
import { holdContent, type ImageStore, type Progress, shortId } from './store.ts'

/** One thing of the store that is not as it was written. */
export type Damage = { readonly problem: string } & (
  | { readonly kind: 'blob'; readonly digest: Digest }
  | { readonly kind: 'layer'; readonly hex: string }
  | { readonly kind: 'fixup'; readonly hex: string }
  /** What an archive is to be made of again. */
  | { readonly kind: 'recipe'; readonly diffId: Digest }
  | { readonly kind: 'catalog'; readonly file: CatalogFile }
  /** Something that the image needs is not here, or not readable. */
  | { readonly kind: 'image'; readonly id: Digest; readonly missing: readonly Digest[] }
  /** A layer of a container. */
  | { readonly kind: 'container'; readonly diffId: string }
  /** A container's record: nobody knows what it needs. */
  | { readonly kind: 'record' }
)

export interface Checked {
  readonly damage: readonly Damage[]
  /** Layers that nothing here can be compared with: no archive of theirs is kept, and none was when they were last checked. */
  readonly unverified: readonly string[]
  /** Directories and files of work that was cut off: no damage, the next pull takes them up or a collection removes them. */
  readonly debris: number
  readonly images: number
  readonly blobs: number
  readonly layers: number
}

/** A layer's archives by its diff id, as the manifests here name them. */
export type Archives = ReadonlyMap<string, ReadonlySet<Digest>>

const HEX = /^[0-9a-f]{64}$/

/**
 * Reads everything: each blob against its digest, each layer's tree against its archive or against what it was when it was last compared, the
 * catalog and what its images and containers lead to. Nothing is changed but the fingerprints of good layers. Pulls and containers go
 * on meanwhile; only the collector waits.
 */
export async function checkStore(
  store: ImageStore,
  options: {
    roots: () => Roots | Promise<Roots>
    progress?: Progress | undefined
    signal?: AbortSignal | undefined
  },
): Promise<Checked> {
  using _hold = await holdContent(store, options.signal)
  const damage: Damage[] = []
  const unverified: string[] = []
  const records = checkCatalog(store, damage)
  const archives = archivesOf(store, records)
  let blobs = 0
  for (const digest of store.blobs.digests()) {
    options.signal?.throwIfAborted()
    blobs++
    const found = await checkBlob(store, digest, options.progress)
    if (found !== undefined) damage.push(found)
  }
  const names = store.layers.names()
  for (const hex of names) {
    const found = await checkLayer(store, hex, archives, options)
    if (found === 'unverified') unverified.push(hex)
    else if (found !== undefined) damage.push(found)
    else if (!(await isRecipeGood(store, hex))) {
      const problem = 'its archive cannot be made of its tree again'
      damage.push({ kind: 'recipe', diffId: `sha256:${hex}` as Digest, problem })
    }
  }
  for (const hex of store.layers.listFixups()) {
    const problem = fixupProblem(store, hex)
    if (problem !== undefined) damage.push({ kind: 'fixup', hex, problem })
  }
  await checkRoots(store, options.roots, damage)
  return {
    damage,
    unverified,
    debris: debrisOf(store),
    images: records.length,
    blobs,
    layers: names.length,
  }
}

/** Directories and files of work that was cut off. */
export function debrisOf(store: ImageStore): number {
  return store.blobs.partial().files + store.layers.temporary()
}

async function checkRoots(
  store: ImageStore,
  roots: () => Roots | Promise<Roots>,
  damage: Damage[],
): Promise<void> {
  try {
    for (const diffId of (await roots()).layers) {
      if (store.layers.has(diffId)) continue
      const problem = 'a container is made of it, and it is not here'
      damage.push({ kind: 'container', diffId, problem })
    }
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    damage.push({ kind: 'record', problem: error.message })
  }
}

function checkCatalog(store: ImageStore, damage: Damage[]): ImageRecord[] {
  const records: ImageRecord[] = []
  const files = [...store.catalog.files()]
  for (const file of files) {
    if (file.fault !== undefined) damage.push({ kind: 'catalog', file, problem: file.fault })
    else if (file.kind === 'record' && file.record !== undefined) records.push(file.record)
  }
  const ids = new Set(records.map(({ id }) => id))
  for (const record of records) {
    const found = imageDamage(store, record)
    if (found !== undefined) damage.push(found)
  }
  for (const file of files) {
    if (file.kind !== 'name' || file.name === undefined) continue
    const { name, id, index } = file.name
    if (!ids.has(id)) {
      const problem = `it names ${name}, an image that is not here: ${id}`
      damage.push({ kind: 'catalog', file, problem })
    } else if (index !== undefined && !store.blobs.has(index)) {
      const problem = `the document that ${name} was chosen from is not here: ${index}`
      damage.push({ kind: 'image', id, missing: [], problem })
    }
  }
  return records
}

/** What keeps an image from being run: its documents, or a layer. Where several do, one damage says them all. */
export function imageDamage(store: ImageStore, record: ImageRecord): Damage | undefined {
  const problems: string[] = []
  const attempt = (check: () => void): void => {
    try {
      check()
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      problems.push(describe(error))
    }
  }
  attempt(() => {
    const { manifest } = readManifest(store, record.manifest)
    if (manifest.config.digest !== record.id) {
      throw new Fault('DATA_LOSS', `its manifest ${record.manifest} is of another image`)
    }
  })
  attempt(() => {
    const bytes = store.blobs.read(record.id, CONFIG_BYTES_MAX)
    const { diff_ids: diffIds } = parseConfig(bytes, 'its configuration').rootfs
    if (diffIds.join() !== record.diffIds.join()) {
      throw new Fault('DATA_LOSS', 'its record names other layers than its configuration')
    }
  })
  const missing = record.diffIds.filter((diffId) => !store.layers.has(diffId))
  for (const diffId of missing) problems.push(`layer ${shortId(diffId)} is not unpacked`)
  if (problems.length === 0) return undefined
  return { kind: 'image', id: record.id, missing, problem: problems.join('; ') }
}

/** From every manifest that can be read. */
export function archivesOf(store: ImageStore, records: readonly ImageRecord[]): Archives {
  const archives = new Map<string, Set<Digest>>()
  const add = (diffId: string, digest: Digest): void => {
    const known = archives.get(diffId)
    if (known === undefined) archives.set(diffId, new Set([digest]))
    else known.add(digest)
  }
  for (const record of records) {
    // A manifest that cannot be read is told as its image's damage.
    const layers = layersIfReadable(store, record.manifest)
    record.diffIds.forEach((diffId, i) => {
      const layer = layers[i]
      if (layer !== undefined) add(diffId, layer.digest)
    })
  }
  for (const { diffId, blob } of store.layers.list()) {
    const digest = digestIn(blob ?? '')
    if (digest !== undefined) add(diffId, digest)
  }
  return archives
}

async function checkBlob(
  store: ImageStore,
  name: Digest,
  progress: Progress | undefined,
): Promise<Damage | undefined> {
  const digest = digestIn(name)
  if (digest === undefined) return { kind: 'blob', digest: name, problem: 'its name is no digest' }
  const total = store.blobs.size(digest) ?? 0
  progress?.({ id: shortId(digest), phase: 'checking', done: 0, total })
  if (await store.blobs.isIntact(digest)) return undefined
  // Removed meanwhile: a repair of another process.
  if (!store.blobs.has(digest)) return undefined
  return { kind: 'blob', digest, problem: 'its bytes are not those of its digest' }
}

async function checkLayer(
  store: ImageStore,
  hex: string,
  archives: Archives,
  options: { progress?: Progress | undefined; signal?: AbortSignal | undefined },
): Promise<Damage | 'unverified' | undefined> {
  const damaged = (problem: string): Damage => ({ kind: 'layer', hex, problem })
  if (!HEX.test(hex)) return damaged('its name is no digest')
  const info = store.layers.get(`sha256:${hex}`)
  if (info === undefined) return damaged('its record is missing or damaged')
  options.progress?.({ id: hex.slice(0, 12), phase: 'checking', done: 0, total: info.size })
  const verdict = await verifyLayer(store, info, archives, options.signal)
  if (verdict === 'good') return undefined
  return verdict === 'unverified' ? 'unverified' : damaged(verdict.problem)
}

/** Whether a good tree gives the archive it came from; where there is no recipe, nothing is asked of it. */
async function isRecipeGood(store: ImageStore, hex: string): Promise<boolean> {
  const diffId = `sha256:${hex}` as Digest
  if (!existsSync(store.layers.recipePath(diffId))) return true
  try {
    for await (const _ of archiveFromTree(store, diffId));
    return true
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return false
    throw error
  }
}

/** Compares a tree with what it was when it was last found good, and with its archive where that is not known or differs. */
export async function verifyLayer(
  store: ImageStore,
  info: LayerInfo,
  archives: Archives,
  signal: AbortSignal | undefined,
): Promise<'good' | 'unverified' | { problem: string }> {
  const tree = store.layers.treePath(info.diffId)
  if (!existsSync(tree)) return { problem: 'its tree is missing' }
  const actual = await fingerprintTree(tree, info.implicit, signal)
  const known = store.layers.fingerprint(info.diffId)
  if (known === actual) return 'good'
  const fresh = await unpackBeside(store, info.diffId, archives, signal)
  if (fresh === undefined) {
    return known === undefined ? 'unverified' : { problem: 'its files are not what they were' }
  }
  const isSame =
    fresh.fingerprint === actual &&
    fresh.info.rootOpaque === info.rootOpaque &&
    fresh.info.implicit.toSorted().join('\0') === info.implicit.toSorted().join('\0')
  if (!isSame) return { problem: 'its files are not those of its archive' }
  using _lock = await store.layers.lock(info.diffId, signal)
  store.layers.setFingerprint(info.diffId, actual)
  return 'good'
}

/** A good archive of the layer; undefined where none is kept. */
export async function archiveOfLayer(
  store: ImageStore,
  diffId: string,
  archives: Archives,
): Promise<Digest | undefined> {
  for (const digest of archives.get(diffId) ?? []) {
    if (await store.blobs.isIntact(digest)) return digest
  }
  return undefined
}

async function unpackBeside(
  store: ImageStore,
  diffId: string,
  archives: Archives,
  signal: AbortSignal | undefined,
): Promise<{ fingerprint: string; info: LayerInfo } | undefined> {
  const digest = await archiveOfLayer(store, diffId, archives)
  if (digest === undefined) return undefined
  const work = store.layers.begin()
  try {
    const beside = new LayerStore(work.directory, { durable: false })
    const source = store.blobs.path(digest)
    const info = await unpackLayer({ store: beside, source, diffId, signal })
    const tree = beside.treePath(diffId)
    return { info, fingerprint: await fingerprintTree(tree, info.implicit, signal) }
  } catch (error) {
    // A manifest that names another layer's archive.
    if (error instanceof Fault && error.code === 'DATA_LOSS') return undefined
    throw error
  } finally {
    await work.discard()
  }
}

/** A fix-up layer holds directories alone; what they are is made of the other layers. */
function fixupProblem(store: ImageStore, hex: string): string | undefined {
  const tree = join(store.layers.directory, 'fixup', hex, 'tree')
  if (!HEX.test(hex)) return 'its name is no digest'
  if (!existsSync(tree)) return 'its tree is missing'
  const entries = readdirSync(tree, { recursive: true, withFileTypes: true })
  const file = entries.find((entry) => !entry.isDirectory())
  return file === undefined ? undefined : 'it holds a file'
}
