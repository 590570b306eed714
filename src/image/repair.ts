import { rmSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { unpackLayer } from '../layer/unpack.ts'
import type { Digest } from '../spec/image.ts'
import type { CatalogFile, ImageRecord } from './catalog.ts'
import {
  type Archives,
  archiveOfLayer,
  archivesOf,
  type Damage,
  imageDamage,
  verifyLayer,
} from './check.ts'
import type { Roots } from './collect.ts'
import { readConfig, readManifest } from './inspect.ts'
import { imageRecord } from './pull.ts'
import { excludeHolders, type ImageStore } from './store.ts'

/** What was done about one damage. */
export interface Repair {
  readonly damage: Damage
  readonly isRepaired: boolean
  /** In words: what was done, or why nothing was. */
  readonly outcome: string
}

const IN_USE = 'a container uses it: remove the container first'

interface Work {
  readonly store: ImageStore
  readonly roots: Roots
  readonly archives: Archives
  readonly signal: AbortSignal | undefined
}

/**
 * Repairs what checkStore has found, from what is here: a layer is unpacked again, a record made again of its documents, a damaged blob
 * dropped. What a container uses is told and left. It waits until nobody pulls or creates, and looks again before it acts: what others
 * have repaired meanwhile stays. DATA_LOSS, and nothing is done, while a container's record cannot be read.
 */
export async function repairStore(
  store: ImageStore,
  damage: readonly Damage[],
  options: { roots: () => Roots | Promise<Roots>; signal?: AbortSignal | undefined },
): Promise<Repair[]> {
  const { signal } = options
  using _hold = await excludeHolders(store, { wait: true, signal })
  await store.catalog.clean()
  await store.layers.collectTemporary()
  store.blobs.collectIngest({ partials: true })
  const roots = await options.roots()
  const repairs: Repair[] = []
  // Blobs first: a layer shall not be made of a damaged one. Images last: by then their layers are as good as they get.
  const order: readonly Repairable['kind'][] = [
    'recipe',
    'blob',
    'catalog',
    'fixup',
    'layer',
    'image',
    'container',
  ]
  for (const kind of order) {
    const work = { store, roots, archives: archivesOf(store, recordsOf(store)), signal }
    const isNow = (one: Damage): one is Repairable => one.kind === kind
    for (const each of damage.filter(isNow)) {
      repairs.push({ damage: each, ...(await repairOne(each, work)) })
    }
  }
  return repairs
}

function recordsOf(store: ImageStore): ImageRecord[] {
  return store.catalog.list(() => undefined)
}

type Outcome = Omit<Repair, 'damage'>
const done = (outcome: string): Outcome => ({ isRepaired: true, outcome })
const left = (outcome: string): Outcome => ({ isRepaired: false, outcome })

/** While a container's record is damaged nothing is repaired: its roots cannot be said. */
type Repairable = Exclude<Damage, { kind: 'record' }>

function repairOne(damage: Repairable, work: Work): Outcome | Promise<Outcome> {
  switch (damage.kind) {
    case 'blob':
      return repairBlob(damage.digest, work)
    case 'layer':
      return repairLayer(damage.hex, work)
    case 'fixup':
      return repairFixup(damage.hex, work)
    case 'recipe':
      rmSync(work.store.layers.recipePath(damage.diffId), { force: true })
      return done('removed: a pull with --blobs brings the archive')
    case 'catalog':
      return repairFile(damage.file, work)
    case 'image':
      return repairImage(damage, work)
    case 'container':
      return repairMissing(damage.diffId, work)
  }
}

async function repairBlob(digest: Digest, { store, roots }: Work): Promise<Outcome> {
  if (await store.blobs.isIntact(digest)) return done('it is good again')
  if (new Set(roots.images).has(digest)) return left(IN_USE)
  store.blobs.remove(digest)
  return done('removed')
}

async function repairLayer(hex: string, work: Work): Promise<Outcome> {
  const { store, roots, archives, signal } = work
  const diffId = `sha256:${hex}`
  if (!/^[0-9a-f]{64}$/.test(hex)) return left('berth has not made it: remove it by hand')
  const info = store.layers.get(diffId)
  if (info !== undefined && (await verifyLayer(store, info, archives, signal)) === 'good') {
    return done('it is good again')
  }
  if (new Set(roots.layers).has(diffId)) return left(IN_USE)
  await store.layers.remove(diffId)
  const made = await repairMissing(diffId, work)
  if (made.isRepaired) return made
  const isNeeded = recordsOf(store).some(({ diffIds }) => diffIds.includes(diffId as Digest))
  return isNeeded ? left(`removed; ${made.outcome}`) : done('removed; no image needs it')
}

/** Unpacks a layer that is not here. */
async function repairMissing(diffId: string, work: Work): Promise<Outcome> {
  const { store, archives, signal } = work
  if (store.layers.has(diffId)) return done('it is here again')
  const digest = await archiveOfLayer(store, diffId, archives)
  if (digest === undefined) return left('no good archive of it is here: pull the image again')
  await unpackLayer({ store: store.layers, source: store.blobs.path(digest), diffId, signal })
  return done('unpacked again')
}

async function repairFixup(hex: string, { store, roots }: Work): Promise<Outcome> {
  if (!/^[0-9a-f]{64}$/.test(hex)) return left('berth has not made it: remove it by hand')
  const chains = new Set(roots.chains ?? [])
  if (chains.has(`sha256:${hex}`)) return left(IN_USE)
  await store.layers.removeFixup(hex)
  return done('removed: it is made again where it is needed')
}

async function repairFile(file: CatalogFile, { store, roots }: Work): Promise<Outcome> {
  if (isGood(store, file)) return done('it is good again')
  if (file.kind === 'name') {
    await store.catalog.drop(file)
    return done('removed: the name is gone')
  }
  const made = file.id === undefined ? undefined : remake(store, file.id)
  if (made !== undefined) {
    await store.catalog.put(made, [])
    return done('made again')
  }
  if (file.id !== undefined && new Set(roots.images).has(file.id)) return left(IN_USE)
  await store.catalog.drop(file)
  return done('removed: pull or load the image again')
}

/** A name whose image's record has been made again, or what others have written meanwhile. */
function isGood(store: ImageStore, file: CatalogFile): boolean {
  const now = [...store.catalog.files()].find(({ path }) => path === file.path)
  if (now === undefined) return true
  if (now.fault !== undefined) return false
  if (now.kind === 'record' || now.name === undefined) return true
  const { id } = now.name
  return recordsOf(store).some((record) => record.id === id)
}

/** An image's record is a function of its documents, and its names lead to them. */
function remake(store: ImageStore, id: Digest): ImageRecord | undefined {
  for (const file of store.catalog.files()) {
    if (file.kind !== 'name' || file.name?.id !== id) continue
    try {
      const digest = file.name.manifest
      const { manifest, mediaType, bytes } = readManifest(store, digest)
      if (manifest.config.digest !== id) continue
      const config = readConfig(store, id)
      const found = { mediaType, digest, size: bytes.length }
      return imageRecord(manifest, found, config, config.rootfs.diff_ids)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
    }
  }
  return undefined
}

async function repairImage(
  { id, missing }: Damage & { kind: 'image' },
  work: Work,
): Promise<Outcome> {
  const { store } = work
  const record = store.catalog.record(id)
  if (record === undefined) return done('it is gone')
  for (const diffId of missing) await repairMissing(diffId, work)
  const still = imageDamage(store, record)
  if (still === undefined && missing.length > 0) return done('its layers are unpacked again')
  return left('pull or load the image again')
}
