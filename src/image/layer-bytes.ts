import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { Fault } from '../base/fault.ts'
import { type Compression, detectCompression, MAGIC_BYTES } from '../layer/compress.ts'
import { type Descriptor, type Digest, type Manifest, MEDIA_TYPES } from '../spec/image.ts'
import { algorithmOf, digestIn, finish, hasherOf, mismatch } from './digest.ts'
import { type ImageStore, shortId } from './store.ts'

const CHUNK_BYTES = 1024 * 1024

/** The bytes of one layer, ready to travel. */
export interface LayerBytes {
  /** What the bytes are: the descriptor asked for, or another blob of the same diff id where `isExact` is false. */
  readonly descriptor: Descriptor
  readonly isExact: boolean
  /** From `offset` on. Read from 0 to the end they are verified: DATA_LOSS where the disk has spoilt them. */
  chunks(offset?: number): AsyncIterable<Uint8Array>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * The blob of a layer for whoever gives it away (push, save), whatever is left of it here: the blob itself, else another image's blob of the same
 * tree. The second is not what the manifest names: the caller puts its descriptor into the manifest (`withLayers`), which keeps
 * the image's id. FAILED_PRECONDITION where neither is here: a pull with `blobs: true` brings the exact one.
 *
 * The caller holds the content (holdContent) until it has disposed of what it got.
 */
export async function layerBytes(
  store: ImageStore,
  layer: { descriptor: Descriptor; diffId: Digest },
): Promise<LayerBytes> {
  const { descriptor, diffId } = layer
  if (store.blobs.size(descriptor.digest) === descriptor.size) {
    return storedBlob(store, descriptor, true)
  }
  const other = digestIn(store.layers.get(diffId)?.blob ?? '')
  const size = other === undefined ? undefined : store.blobs.size(other)
  if (other !== undefined && size !== undefined) {
    const mediaType = mediaTypeLike(descriptor.mediaType, await compressionOf(store, other))
    return storedBlob(store, { mediaType, digest: other, size }, false)
  }
  throw new Fault(
    'FAILED_PRECONDITION',
    `the archive of layer ${shortId(descriptor.digest)} is not kept here, only its unpacked tree: pull the image again with --blobs`,
  )
}

function storedBlob(store: ImageStore, descriptor: Descriptor, isExact: boolean): LayerBytes {
  return {
    descriptor,
    isExact,
    chunks: (offset = 0) =>
      verified(
        createReadStream(store.blobs.path(descriptor.digest), {
          start: offset,
          highWaterMark: CHUNK_BYTES,
        }),
        descriptor,
        offset,
      ),
    [Symbol.asyncDispose]: async () => undefined,
  }
}

async function* verified(
  source: AsyncIterable<Uint8Array>,
  descriptor: Descriptor,
  offset: number,
): AsyncGenerator<Uint8Array> {
  const hash = hasherOf(descriptor.digest)
  for await (const chunk of source) {
    hash.update(chunk)
    yield chunk
  }
  if (offset > 0) return
  const actual = finish(hash, algorithmOf(descriptor.digest))
  if (actual !== descriptor.digest) {
    throw mismatch(`blob ${descriptor.digest} on the disk`, descriptor.digest, actual)
  }
}

async function compressionOf(store: ImageStore, digest: Digest): Promise<Compression> {
  await using file = await open(store.blobs.path(digest), 'r')
  const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
  return detectCompression(buffer.subarray(0, bytesRead))
}

/** The media type of the same family, OCI or docker, for another compression. */
function mediaTypeLike(mediaType: string, compression: Compression): string {
  const isDocker = mediaType.startsWith('application/vnd.docker.')
  if (compression === 'gzip')
    return isDocker ? MEDIA_TYPES.dockerLayerGzip : MEDIA_TYPES.ociLayerGzip
  if (compression === 'zstd')
    return isDocker ? MEDIA_TYPES.dockerLayerZstd : MEDIA_TYPES.ociLayerZstd
  return isDocker ? MEDIA_TYPES.dockerLayer : MEDIA_TYPES.ociLayer
}

/** The manifest with these layers in place of its own; undefined where they are its own, and its bytes stay what they are. */
export function withLayers(
  manifest: Manifest,
  layers: readonly LayerBytes[],
): Manifest | undefined {
  if (layers.every((layer) => layer.isExact)) return undefined
  return { ...manifest, layers: layers.map((layer) => layer.descriptor) }
}
