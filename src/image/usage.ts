import { statSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { treeUsage } from '../layer/store.ts'
import type { Digest } from '../spec/image.ts'
import type { Image } from './catalog.ts'
import type { Roots } from './collect.ts'
import { digestIn } from './digest.ts'
import { readManifest } from './inspect.ts'
import type { ImageStore } from './store.ts'

/** What one image takes of the disk, in bytes of blocks (st_blocks), its blobs and unpacked layers together. */
export interface ImageUsage {
  readonly image: Image
  /** Of what other images have too. */
  readonly sharedBytes: number
  /** What a removal of this image alone gives back. */
  readonly ownBytes: number
  readonly isUsed: boolean
}

export interface StoreUsage {
  readonly images: readonly ImageUsage[]
  /** All of ROOT/images and ROOT/layers, as du(1) counts. */
  readonly totalBytes: number
  readonly blobBytes: number
  readonly layerBytes: number
  /** Parts of blobs on their way, or left by cut-off transfers; in `totalBytes`, not in `blobBytes`. */
  readonly partialBytes: number
  /** What no container's image needs: a prune of all images gives it back. */
  readonly reclaimableBytes: number
}

/** One blob or unpacked layer. */
interface Part {
  readonly bytes: number
  users: number
  isUsed: boolean
}

/**
 * Measures the store as it is on the disk now: a file of several names counts once, a hole does not count. While others pull or remove, the
 * sum is that of no single moment.
 */
export async function storeUsage(store: ImageStore, roots: Roots): Promise<StoreUsage> {
  const blobs = blobParts(store)
  const layers = await layerParts(store)
  const usedImages = new Set(roots.images)
  const usedLayers = new Set(roots.layers)
  const images = store.catalog.list((fault) => store.warn(fault.message))
  const documents = [...store.catalog.documents()]
  const partsOf = images.map((image) => {
    const own = documents.filter(({ id }) => id === image.id)
    const parts = new Set(blobsOf(store, image, own).flatMap((digest) => blobs.get(digest) ?? []))
    for (const diffId of image.diffIds) {
      const layer = layers.get(diffId)
      if (layer !== undefined) parts.add(layer)
    }
    const isUsed = usedImages.has(image.id)
    for (const part of parts) {
      part.users++
      part.isUsed ||= isUsed
    }
    return { image, isUsed, parts }
  })
  for (const id of usedImages) mark(blobs.get(id))
  for (const diffId of usedLayers) mark(layers.get(diffId))
  const all = [...blobs.values(), ...layers.values()]
  return {
    images: partsOf.map(({ image, isUsed, parts }) => ({
      image,
      isUsed,
      sharedBytes: sum([...parts].filter(({ users }) => users > 1)),
      ownBytes: sum([...parts].filter(({ users }) => users === 1)),
    })),
    totalBytes:
      (await treeUsage(join(store.root, 'images'))).bytes +
      (await treeUsage(join(store.root, 'layers'))).bytes,
    blobBytes: sum(blobs.values()),
    layerBytes: sum(layers.values()),
    partialBytes: store.blobs.partial().bytes,
    reclaimableBytes: sum(all.filter((part) => !part.isUsed)),
  }
}

function mark(part: Part | undefined): void {
  if (part !== undefined) part.isUsed = true
}

function sum(parts: Iterable<Part>): number {
  let bytes = 0
  for (const part of parts) bytes += part.bytes
  return bytes
}

function blobParts(store: ImageStore): Map<string, Part> {
  const parts = new Map<string, Part>()
  for (const digest of store.blobs.digests()) {
    const status = statSync(store.blobs.path(digest), { throwIfNoEntry: false })
    if (status === undefined) continue
    parts.set(digest, { bytes: status.blocks * 512, users: 0, isUsed: false })
  }
  return parts
}

/** With the directory and its records: all that a layer's removal gives back. */
async function layerParts(store: ImageStore): Promise<Map<string, Part>> {
  const parts = new Map<string, Part>()
  for (const hex of store.layers.names()) {
    try {
      const { bytes } = await treeUsage(join(store.layers.directory, 'sha256', hex))
      parts.set(`sha256:${hex}`, { bytes, users: 0, isUsed: false })
    } catch (error) {
      // Removed since the directory was read.
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
  return parts
}

/** Every blob that stays because of this image: see the collector's mark. */
function blobsOf(
  store: ImageStore,
  image: Image,
  documents: readonly { manifest: Digest; index: Digest | undefined }[],
): Digest[] {
  const blobs = new Set<Digest>([image.id])
  for (const { index } of documents) if (index !== undefined) blobs.add(index)
  for (const digest of new Set([image.manifest, ...documents.map(({ manifest }) => manifest)])) {
    blobs.add(digest)
    try {
      for (const { digest: layer } of readManifest(store, digest).manifest.layers) blobs.add(layer)
    } catch (error) {
      // What it leads to cannot be known; `system check` tells of it.
      if (!(error instanceof Fault)) throw error
    }
  }
  for (const diffId of image.diffIds) {
    const source = digestIn(store.layers.get(diffId)?.blob ?? '')
    if (source !== undefined) blobs.add(source)
  }
  return [...blobs]
}
