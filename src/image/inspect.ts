import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest, ImageConfig, Manifest } from '../spec/image.ts'
import type { Image } from './catalog.ts'
import { CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX, parseConfig, parseDocument } from './manifest.ts'
import { formatReference, parseReference } from './reference.ts'
import { holdContent, type ImageStore, shortId } from './store.ts'

/** An image's configuration, verified against its id as it is read. */
export function readConfig(store: ImageStore, id: Digest): ImageConfig {
  const bytes = store.blobs.read(id, CONFIG_BYTES_MAX)
  return parseConfig(bytes, `the configuration of image ${shortId(id)}`)
}

/** A stored manifest, verified against its digest as it is read. NOT_FOUND; DATA_LOSS where it is none. */
export function readManifest(
  store: ImageStore,
  digest: Digest,
): { manifest: Manifest; mediaType: string; bytes: Buffer } {
  const bytes = store.blobs.read(digest, MANIFEST_BYTES_MAX)
  const document = parseDocument(bytes, undefined, `manifest ${digest}`)
  if (document.kind === 'manifest') {
    return { manifest: document.manifest, mediaType: document.mediaType, bytes }
  }
  throw new Fault('DATA_LOSS', `${digest} is an index where a manifest should be`)
}

/** The layers that a stored manifest names; none where it is damaged or gone, which is no matter of whoever looks at all images. */
export function layersIfReadable(store: ImageStore, digest: Digest): readonly Descriptor[] {
  try {
    return readManifest(store, digest).manifest.layers
  } catch (error) {
    if (error instanceof Fault) return []
    throw error
  }
}

/** The image behind a name, id or prefix, with its configuration. NOT_FOUND, INVALID_ARGUMENT. */
export function inspectImage(
  store: ImageStore,
  text: string,
): { image: Image; config: ImageConfig } {
  const { id } = store.catalog.resolve(text)
  return { image: store.catalog.get(id), config: readConfig(store, id) }
}

/** Gives an image one more name; a name that another image has moves. Returns the full name. */
export async function tagImage(store: ImageStore, text: string, name: string): Promise<string> {
  using _hold = await holdContent(store)
  const reference = parseReference(name)
  const full = formatReference({ ...reference, digest: undefined })
  await store.catalog.tag(store.catalog.resolve(text).id, full)
  return full
}

export interface HistoryRow {
  /** RFC 3339; '' where the image does not say. */
  readonly created: string
  readonly createdBy: string
  readonly comment: string
  /** The diff id of the layer that the step made; undefined for one that only changed the configuration. */
  readonly diffId: Digest | undefined
  /** Bytes on the disk of that layer, unpacked; 0 without one. */
  readonly size: number
}

/** How the image was made, newest step first, as its author says it: nothing verifies the words. */
export function imageHistory(store: ImageStore, text: string): { id: Digest; steps: HistoryRow[] } {
  const { id } = store.catalog.resolve(text)
  const config = readConfig(store, id)
  const diffIds = config.rootfs.diff_ids
  const sizeOf = (diffId: Digest | undefined): number =>
    diffId === undefined ? 0 : (store.layers.get(diffId)?.size ?? 0)
  let layer = 0
  const steps = (config.history ?? []).map((entry): HistoryRow => {
    const diffId = entry.empty_layer === true ? undefined : diffIds[layer++]
    return {
      created: entry.created ?? '',
      createdBy: entry.created_by ?? '',
      comment: entry.comment ?? '',
      diffId,
      size: sizeOf(diffId),
    }
  })
  // Layers that no step accounts for (flattened or made by a tool without history).
  for (; layer < diffIds.length; layer++) {
    const diffId = diffIds[layer]
    steps.push({ created: '', createdBy: '', comment: '', diffId, size: sizeOf(diffId) })
  }
  return { id, steps: steps.reverse() }
}
