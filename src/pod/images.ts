/**
 * What a node's images are to kubelet (CRI ImageService), as plain functions on the image store that the command line uses too.
 *
 * An image's id is the digest of its configuration, everywhere. Nothing here is a cache of what others may change: names and records are read
 * anew each time, and only what a digest names is remembered.
 */
import { describe, Fault } from '../base/fault.ts'
import { openImages, tellOfImage } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import type { Image } from '../image/catalog.ts'
import { readConfig } from '../image/inspect.ts'
import {
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
} from '../image/reference.ts'
import type { ImageStore } from '../image/store.ts'
import type { Digest } from '../spec/image.ts'
import { collectSoon } from './image-collect.ts'
import { type Pinned, pinnedBy } from './image-pins.ts'
import {
  annotationsOf,
  type ImageView,
  keepUsers,
  verboseInfo,
  viewInList,
  viewOf,
} from './image-view.ts'

export type { AuthConfig } from './image-auth.ts'
export { collectSoon } from './image-collect.ts'
export { type Pinned, pinnedBy } from './image-pins.ts'
export { imageMetrics, isRegistryUnavailable, pullImage, pullsUnderWay } from './image-pull.ts'
export {
  type DeviceUsage,
  deviceUsage,
  imageFsInfo,
  type LayerUsage,
  layersMeasured,
  writableLayerUsage,
} from './image-usage.ts'
export { imageVolume, useImage } from './image-use.ts'
export type { ImageView } from './image-view.ts'

const NOTHING_PINNED: Pinned = pinnedBy([])

export interface ImageStatus {
  readonly image: ImageView
  /** Of its manifest. */
  readonly annotations: Readonly<Record<string, string>>
  /** With `verbose`. */
  readonly info: Readonly<Record<string, string>>
}

/**
 * Every image once, or the one that `image` (any kind of reference) names. What is damaged is left out and told by `engine.warn`: one bad file
 * must not hide a node's images.
 */
export function listImages(
  engine: Engine,
  options: { image?: string; pinned?: Pinned } = {},
): ImageView[] {
  const store = openImages(engine)
  const pinned = options.pinned ?? NOTHING_PINNED
  if (options.image !== undefined && options.image !== '') {
    const image = find(engine, store, options.image)
    return image === undefined ? [] : [viewInList(store, image, pinned, engine.warn)]
  }
  const images = store.catalog.list((fault) => engine.warn(fault.message))
  keepUsers(store, new Set(images.map(({ id }) => id)))
  return images.map((image) => viewInList(store, image, pinned, engine.warn))
}

/**
 * An image by name, tag, digest, id or unique prefix; undefined where it is missing. One whose record, configuration or layers are damaged
 * counts as missing: kubelet then pulls it, and a pull repairs it, where a container of it would fail for ever. INVALID_ARGUMENT for what
 * names no image at all, for a prefix of several, and for an image whose user is out of range.
 */
export function imageStatus(
  engine: Engine,
  ref: string,
  options: { pinned?: Pinned; verbose?: boolean } = {},
): ImageStatus | undefined {
  const store = openImages(engine)
  const image = find(engine, store, ref)
  if (image === undefined) return undefined
  return unlessLost(engine, ref, () => {
    const config = readConfig(store, image.id)
    for (const diffId of config.rootfs.diff_ids) {
      if (!store.layers.has(diffId)) {
        throw new Fault('DATA_LOSS', `its layer ${diffId} is missing or damaged`)
      }
    }
    return {
      image: viewOf(store, image, options.pinned ?? NOTHING_PINNED),
      annotations: annotationsOf(store, image),
      info: options.verbose ? verboseInfo(image, config) : {},
    }
  })
}

/**
 * What a container's status calls its image, by tag and by digest: of several names the one that was `written` in the pod, for its author may not
 * know the others. `written` is only shown: what is no name is no error.
 */
export function shownNames(
  engine: Engine,
  id: string,
  written: string,
): { imageRef: string; imageDigestRef: string } {
  const { names = [], repoDigests = [] } = find(engine, openImages(engine), id) ?? {}
  let asked: Reference | undefined
  try {
    asked = parseReference(written)
  } catch {}
  const name = asked && names.find((each) => each === formatReference(asked))
  const digest = asked && repoDigests.find((each) => each.startsWith(`${repositoryOf(asked)}@`))
  const imageDigestRef = digest ?? repoDigests[0] ?? id
  return { imageRef: name ?? names[0] ?? imageDigestRef, imageDigestRef }
}

function find(engine: Engine, store: ImageStore, ref: string): Image | undefined {
  return unlessLost(engine, ref, () => store.catalog.get(store.catalog.resolve(ref).id))
}

/** Undefined for what is not here, any more or yet, and for what is damaged. */
function unlessLost<T>(engine: Engine, ref: string, read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    if (error.code === 'DATA_LOSS') engine.warn(`image ${ref}: ${describe(error)}`)
    else if (error.code !== 'NOT_FOUND') throw error
    return undefined
  }
}

/**
 * Removes the image with all its names, whichever of them was given; one that is not here is success. What containers use of it, those of
 * the command line too, stays on the disk until they are gone. A pinned image goes as well: `pinned` is advice to kubelet, and the CRI
 * says that who asks is obeyed.
 */
export async function removeImage(engine: Engine, ref: string): Promise<void> {
  const store = openImages(engine)
  const id = idOf(engine, store, ref)
  if (id === undefined) return
  const { untagged, deleted } = await store.catalog.removeWhole(id)
  for (const name of untagged) tellOfImage(engine, 'untag', name, name)
  if (!deleted) return
  tellOfImage(engine, 'delete', id, ref)
  await collectSoon(engine)
}

function idOf(engine: Engine, store: ImageStore, ref: string): Digest | undefined {
  return unlessLost(engine, ref, () => store.catalog.resolve(ref).id)
}
