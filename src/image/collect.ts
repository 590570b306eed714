import { Fault } from '../base/fault.ts'
import { chainId } from '../layer/chain.ts'
import type { Digest } from '../spec/image.ts'
import type { Image } from './catalog.ts'
import { MANIFEST_BYTES_MAX, parseDocument } from './manifest.ts'
import { familiarName } from './reference.ts'
import { collectionNote, excludeHolders, type ImageStore, shortId } from './store.ts'

/** What containers use, beyond what the catalog knows: the engine says it. */
export interface Roots {
  /** Image ids of containers' records. */
  readonly images: Iterable<string>
  /** Diff ids of their layers: they stay even where the image was removed by force. */
  readonly layers: Iterable<string>
  /** Chain ids whose fix-up layers they use. Without it these stay as long as a container's image is not in the catalog. */
  readonly chains?: Iterable<string>
}

export interface Collected {
  /** False: others were at work; what is unreferenced goes with the next collection. */
  readonly isDone: boolean
  readonly blobs: number
  readonly layers: number
  readonly reclaimedBytes: number
}

const NOTHING: Collected = { isDone: false, blobs: 0, layers: 0, reclaimedBytes: 0 }

/**
 * Removes every blob and layer that no image and no container leads to. It holds the content lock alone, so no pull is between its
 * first blob and its catalog entry, and no container between its image and its record; where others hold it, a note is left and
 * nothing is done, unless `wait`. `roots` is called under the lock: containers made until then count.
 */
export async function collect(
  store: ImageStore,
  options: {
    roots: () => Roots | Promise<Roots>
    wait: boolean
    /** Also part-fetched blobs that a later pull could take up. */
    partials: boolean
    signal?: AbortSignal | undefined
  },
): Promise<Collected> {
  const hold = await excludeHolders(store, options)
  if (hold === undefined) {
    collectionNote.set(store)
    return NOTHING
  }
  using _hold = hold
  collectionNote.clear(store)
  await store.catalog.clean()
  const used = mark(store, await options.roots())
  let reclaimedBytes = store.blobs.collectIngest({ partials: options.partials })
  let blobs = 0
  for (const { digest, size } of [...store.blobs.list()]) {
    if (used.blobs.has(digest)) continue
    store.blobs.remove(digest)
    blobs++
    reclaimedBytes += size
  }
  let layers = 0
  await store.layers.collectTemporary()
  for (const { diffId, size } of store.layers.list()) {
    if (used.layers.has(diffId)) continue
    await store.layers.remove(diffId)
    reclaimedBytes += size
    layers++
  }
  await collectFixups(store, used.chains)
  return { isDone: true, blobs, layers, reclaimedBytes }
}

/** Fix-up layers hold directories alone: they count for nothing in bytes, and are made again where they are missing. */
async function collectFixups(
  store: ImageStore,
  used: ReadonlySet<string> | undefined,
): Promise<void> {
  if (used === undefined) return
  for (const hex of store.layers.listFixups()) {
    if (!used.has(`sha256:${hex}`)) await store.layers.removeFixup(hex)
  }
}

/** Everything that images, their names and containers lead to. */
function mark(
  store: ImageStore,
  roots: Roots,
): { blobs: Set<string>; layers: Set<string>; chains: Set<string> | undefined } {
  const blobs = new Set<string>()
  const layers = new Set<string>(roots.layers)
  const images = store.catalog.list()
  const kept = new Set<string>(images.map((image) => image.id))
  const chains = new Set<string>(roots.chains ?? [])
  let areChainsKnown = true
  for (const id of roots.images) {
    blobs.add(id)
    areChainsKnown &&= kept.has(id) || roots.chains !== undefined
  }
  const diffIds = new Map<string, readonly Digest[]>()
  for (const image of images) {
    diffIds.set(image.id, image.diffIds)
    for (const diffId of image.diffIds) layers.add(diffId)
    chains.add(chainId(image.diffIds))
    blobs.add(image.id)
    markManifest(store, image.manifest, image.diffIds, blobs)
  }
  for (const { id, manifest, index } of store.catalog.documents()) {
    // A name whose image is gone is the rest of a removal that was cut off.
    if (!kept.has(id)) continue
    if (index !== undefined) blobs.add(index)
    markManifest(store, manifest, diffIds.get(id) ?? [], blobs)
  }
  return { blobs, layers, chains: areChainsKnown ? chains : undefined }
}

function markManifest(
  store: ImageStore,
  digest: Digest,
  diffIds: readonly Digest[],
  blobs: Set<string>,
): void {
  if (blobs.has(digest)) return
  blobs.add(digest)
  let bytes: Buffer
  try {
    bytes = store.blobs.read(digest, MANIFEST_BYTES_MAX)
  } catch (error) {
    // Its layers stay by their diff ids; what the lost document led to cannot be known and is fetched again with it.
    if (error instanceof Fault && error.code === 'NOT_FOUND') return
    throw error
  }
  const document = parseDocument(bytes, undefined, `manifest ${digest}`)
  if (document.kind === 'index') return
  blobs.add(document.manifest.config.digest)
  document.manifest.layers.forEach((layer, i) => {
    blobs.add(layer.digest)
    if (store.blobs.has(layer.digest)) return
    // Never fetched, since its tree was here: it is given away as the blob that made the tree (layer-bytes.ts).
    const diffId = diffIds[i]
    const source = diffId === undefined ? undefined : store.layers.get(diffId)?.blob
    if (source !== undefined) blobs.add(source)
  })
}

export interface Removed {
  /** Full names. */
  readonly untagged: readonly string[]
  /** The image's id, where it is gone. */
  readonly deleted: readonly Digest[]
  readonly collected: Collected
}

/**
 * docker's rmi. By name: the name goes, and the image with its last one. By id: the image and its one name; with several it is refused
 * without `force`. An image that a container uses is refused by FAILED_PRECONDITION; with `force` its name is taken and the image stays while
 * a container stands (the layers through `roots`).
 */
export async function removeImage(
  store: ImageStore,
  text: string,
  options: {
    force: boolean
    /** What uses the image, in words: `container web`. */
    users: (id: Digest) => readonly string[] | Promise<readonly string[]>
    roots: () => Roots | Promise<Roots>
  },
): Promise<Removed> {
  const { id, name } = store.catalog.resolve(text)
  const users = await options.users(id)
  const { untagged, deleted } = await store.catalog.remove(id, (image) =>
    removal(image, { name, force: options.force, users }),
  )
  const collected = deleted
    ? await collect(store, { roots: options.roots, wait: false, partials: false })
    : NOTHING
  return { untagged, deleted: deleted ? [id] : [], collected }
}

function removal(
  image: Image,
  asked: { name: string | undefined; force: boolean; users: readonly string[] },
): { names: readonly string[]; image: boolean } {
  const { name, force, users } = asked
  const all = [...image.names, ...image.repoDigests]
  if (name !== undefined) {
    const rest = image.names.filter((other) => other !== name)
    const repository = repositoryPart(name)
    // The digest of a repository goes with its last tag (docker's rule).
    const isLastOfIt = !rest.some((other) => repositoryPart(other) === repository)
    const digests = isLastOfIt
      ? image.repoDigests.filter((other) => repositoryPart(other) === repository)
      : []
    const names = [...new Set([name, ...(name.includes('@') ? [] : digests)])]
    const isLast = all.every((other) => names.includes(other))
    if (!isLast) return { names, image: false }
    checkUnused(image, users, force)
    return { names, image: users.length === 0 }
  }
  const repositories = new Set(image.names.map(repositoryPart))
  if (!force && (image.names.length > 1 || repositories.size > 1)) {
    const names = image.names.map(familiarName).join(', ')
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot remove image ${shortId(image.id)}: it has several names (${names}); remove it by name, or with --force`,
    )
  }
  checkUnused(image, users, force)
  return { names: all, image: users.length === 0 }
}

function checkUnused(image: Image, users: readonly string[], force: boolean): void {
  if (users.length === 0 || force) return
  const shown = users.slice(0, 5).join(', ')
  throw new Fault(
    'FAILED_PRECONDITION',
    `cannot remove image ${shortId(image.id)}: it is in use by ${shown}`,
  )
}

function repositoryPart(name: string): string {
  const at = name.indexOf('@')
  return at >= 0 ? name.slice(0, at) : name.slice(0, name.lastIndexOf(':'))
}

/** Removes the images without a tag (dangling), or all, that no container uses; then collects. Repeatable. */
export async function pruneImages(
  store: ImageStore,
  options: {
    all: boolean
    /** Of these only those that are meant. */
    isMeant?: ((image: Image) => boolean) | undefined
    roots: () => Roots | Promise<Roots>
    signal?: AbortSignal | undefined
  },
): Promise<{ deleted: Digest[]; untagged: string[]; collected: Collected }> {
  const deleted: Digest[] = []
  const untagged: string[] = []
  const used = new Set((await options.roots()).images)
  for (const { id } of store.catalog.list()) {
    if (used.has(id)) continue
    try {
      const removed = await store.catalog.remove(id, (image) =>
        (image.names.length === 0 || options.all) && (options.isMeant?.(image) ?? true)
          ? { names: [...image.names, ...image.repoDigests], image: true }
          : { names: [], image: false },
      )
      if (!removed.deleted) continue
      deleted.push(id)
      untagged.push(...removed.untagged)
    } catch (error) {
      // Removed by another process meanwhile: what was asked for.
      if (!(error instanceof Fault) || error.code !== 'NOT_FOUND') throw error
    }
  }
  const collected = await collect(store, {
    roots: options.roots,
    wait: true,
    partials: true,
    signal: options.signal,
  })
  return { deleted, untagged, collected }
}
