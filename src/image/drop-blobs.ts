import { createReadStream, existsSync, rmSync, statSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { decompress } from '../layer/compress.ts'
import { fingerprintTree } from '../layer/fingerprint.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { writeRecipe } from '../layer/recipe.ts'
import type { Digest } from '../spec/image.ts'
import { layersIfReadable } from './inspect.ts'
import { archiveFromTree } from './layer-bytes.ts'
import { excludeHolders, holdContent, type ImageStore, shortId } from './store.ts'

/** What was found about an archive, and of which files that was said. */
interface Proof {
  readonly files: string
  readonly isProven: boolean
}

/** Of archives that are still here, by their digest: whoever calls again and again keeps it, and no proof is made twice. */
export type Proofs = Map<Digest, Proof>

/**
 * Removes the archives of layers that are unpacked, of these images or of all: a third of the disk that an image takes. What a push or save
 * needs stays, as a recipe that is proven to give the same diff id before the archive goes; and a fingerprint, for `system check`. A layer
 * for which that fails keeps its archive, and the user is told.
 *
 * Archives go when nobody else is at work on the store; those of now stay where somebody is, for the next call. Returns the bytes freed.
 */
export async function dropBlobs(
  store: ImageStore,
  options: {
    images?: readonly Digest[]
    wait: boolean
    proofs?: Proofs
    signal?: AbortSignal | undefined
  },
): Promise<number> {
  const proofs: Proofs = options.proofs ?? new Map()
  const layers = await prove(store, proofs, options)
  if (layers.length === 0) return 0
  using hold = await excludeHolders(store, options)
  if (hold === undefined) return 0
  let bytes = 0
  for (const layer of layers) {
    // Between the two holds a repair may have taken a recipe, a collection the tree, and a pull may have brought the archive anew.
    if (proofs.get(layer.digest)?.files !== filesOf(store, layer)) continue
    bytes += store.blobs.size(layer.digest) ?? 0
    store.blobs.remove(layer.digest)
    proofs.delete(layer.digest)
  }
  return bytes
}

interface Archived {
  readonly digest: Digest
  readonly diffId: Digest
}

/** The layers whose archives may go. */
async function prove(
  store: ImageStore,
  proofs: Proofs,
  options: { images?: readonly Digest[]; signal?: AbortSignal | undefined },
): Promise<Archived[]> {
  using _hold = await holdContent(store, options.signal)
  for (const digest of proofs.keys()) if (!store.blobs.has(digest)) proofs.delete(digest)
  const proven: Archived[] = []
  for (const layer of archived(store, options.images)) {
    options.signal?.throwIfAborted()
    let proof = proofs.get(layer.digest)
    if (proof?.files !== filesOf(store, layer)) {
      const isProven = await prepare(store, layer, options.signal)
      proof = { files: filesOf(store, layer), isProven }
      proofs.set(layer.digest, proof)
    }
    if (proof.isProven) proven.push(layer)
  }
  return proven
}

/** The very files that a proof is about: none of them is ever changed in place. */
function filesOf({ layers, blobs }: ImageStore, { digest, diffId }: Archived): string {
  return [layers.treePath(diffId), layers.recipePath(diffId), blobs.path(digest)]
    .map((path) => statSync(path, { bigint: true, throwIfNoEntry: false }))
    .map((file) => (file === undefined ? 'none' : `${file.dev}:${file.ino}:${file.ctimeNs}`))
    .join()
}

/** Stored archives of unpacked layers. */
function archived(store: ImageStore, ids: readonly Digest[] | undefined): Archived[] {
  const found = new Map<Digest, Archived>()
  for (const image of store.catalog.list((fault) => store.warn(fault.message))) {
    if (ids !== undefined && !ids.includes(image.id)) continue
    layersIfReadable(store, image.manifest).forEach(({ digest }, i) => {
      const diffId = image.diffIds[i]
      if (diffId === undefined || !store.blobs.has(digest) || !store.layers.has(diffId)) return
      found.set(digest, { digest, diffId })
    })
  }
  return [...found.values()]
}

/** Whether the archive may go. */
async function prepare(
  store: ImageStore,
  { digest, diffId }: Archived,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { layers } = store
  const recipe = layers.recipePath(diffId)
  const tree = layers.treePath(diffId)
  using _lock = await layers.lock(diffId, signal)
  const info = layers.get(diffId)
  if (info === undefined) return false
  try {
    if (!existsSync(recipe)) {
      const blob = createReadStream(store.blobs.path(digest), {
        highWaterMark: 1024 * 1024,
        signal,
      })
      await writeRecipe(recipe, tree, decompress(blob, LAYER_LIMITS), {
        durable: layers.durable,
      })
    }
    // The proof: what a push will send.
    for await (const _ of archiveFromTree(store, diffId)) signal?.throwIfAborted()
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    rmSync(recipe, { force: true })
    store.warn(`the archive of layer ${shortId(diffId)} stays: ${error.message}`)
    return false
  }
  if (layers.fingerprint(diffId) === undefined) {
    layers.setFingerprint(diffId, await fingerprintTree(tree, info.implicit, signal))
  }
  return true
}
