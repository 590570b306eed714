import { createReadStream, existsSync, rmSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { decompress } from '../layer/compress.ts'
import { fingerprintTree } from '../layer/fingerprint.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { writeRecipe } from '../layer/recipe.ts'
import type { Digest } from '../spec/image.ts'
import { readManifest } from './inspect.ts'
import { archiveFromTree } from './layer-bytes.ts'
import { excludeHolders, holdContent, type ImageStore, shortId } from './store.ts'

/**
 * Removes the archives of layers that are unpacked, of these images or of all: a third of the disk that an image takes. What a push or save
 * needs stays, as a recipe that is proven to give the same diff id before the archive goes; and a fingerprint, for `system check`. A layer
 * for which that fails keeps its archive, and the user is told.
 *
 * Archives go when nobody else is at work on the store; those of now stay where somebody is, for the next call. Returns the bytes freed.
 */
export async function dropBlobs(
  store: ImageStore,
  options: { images?: readonly Digest[]; wait: boolean; signal?: AbortSignal | undefined },
): Promise<number> {
  const ready: Digest[] = []
  {
    using _hold = await holdContent(store, options.signal)
    for (const { digest, diffId } of archived(store, options.images)) {
      options.signal?.throwIfAborted()
      if (await prepare(store, digest, diffId)) ready.push(digest)
    }
  }
  if (ready.length === 0) return 0
  using hold = await excludeHolders(store, options)
  if (hold === undefined) return 0
  let bytes = 0
  for (const digest of new Set(ready)) {
    bytes += store.blobs.size(digest) ?? 0
    store.blobs.remove(digest)
  }
  return bytes
}

/** Stored archives of unpacked layers. */
function archived(
  store: ImageStore,
  ids: readonly Digest[] | undefined,
): { digest: Digest; diffId: Digest }[] {
  const found = new Map<Digest, { digest: Digest; diffId: Digest }>()
  for (const image of store.catalog.list((fault) => store.warn(fault.message))) {
    if (ids !== undefined && !ids.includes(image.id)) continue
    readManifest(store, image.manifest).manifest.layers.forEach(({ digest }, i) => {
      const diffId = image.diffIds[i]
      if (diffId === undefined || !store.blobs.has(digest) || !store.layers.has(diffId)) return
      found.set(digest, { digest, diffId })
    })
  }
  return [...found.values()]
}

/** Whether the archive may go. */
async function prepare(store: ImageStore, digest: Digest, diffId: Digest): Promise<boolean> {
  const { layers } = store
  const recipe = layers.recipePath(diffId)
  const tree = layers.treePath(diffId)
  using _lock = await layers.lock(diffId)
  const info = layers.get(diffId)
  if (info === undefined) return false
  try {
    if (!existsSync(recipe)) {
      const blob = createReadStream(store.blobs.path(digest), { highWaterMark: 1024 * 1024 })
      await writeRecipe(recipe, tree, decompress(blob, LAYER_LIMITS), {
        durable: layers.durable,
      })
    }
    // The proof: what a push will send.
    for await (const _ of archiveFromTree(store, diffId));
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    rmSync(recipe, { force: true })
    store.warn(`the archive of layer ${shortId(diffId)} stays: ${error.message}`)
    return false
  }
  if (layers.fingerprint(diffId) === undefined) {
    layers.setFingerprint(diffId, await fingerprintTree(tree, info.implicit))
  }
  return true
}
