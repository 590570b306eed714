import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { Fault } from '../base/fault.ts'
import { type Compression, detectCompression, MAGIC_BYTES } from '../layer/compress.ts'
import { cook } from '../layer/recipe.ts'
import { type Descriptor, type Digest, type Manifest, MEDIA_TYPES } from '../spec/image.ts'
import { algorithmOf, digestIn, finish, hasherOf, mismatch } from './digest.ts'
import { LAYER_BYTES_MAX } from './manifest.ts'
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
 * tree, else the tree packed and compressed again by its recipe (drop-blobs.ts), the diff id verified. Only the first is what the manifest names,
 * unless the layer travels uncompressed: the caller puts the descriptor of the others into the manifest (`withLayers`), which keeps the
 * image's id. FAILED_PRECONDITION where nothing is left: a pull with `blobs: true` brings the exact one.
 *
 * The caller holds the content (holdContent) until it has disposed of what it got.
 */
export async function layerBytes(
  store: ImageStore,
  layer: { descriptor: Descriptor; diffId: Digest },
  signal?: AbortSignal,
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
  if (existsSync(store.layers.recipePath(diffId))) return cooked(store, layer, signal)
  throw new Fault(
    'FAILED_PRECONDITION',
    `the archive of layer ${shortId(descriptor.digest)} is not kept here, only its unpacked tree: pull the image again with --blobs`,
  )
}

/** An uncompressed archive is what it was; a compressed one is another, for its maker's compressor is not here. */
async function cooked(
  store: ImageStore,
  { descriptor, diffId }: { descriptor: Descriptor; diffId: Digest },
  signal: AbortSignal | undefined,
): Promise<LayerBytes> {
  if (descriptor.digest === diffId) {
    return {
      descriptor,
      isExact: true,
      chunks: (offset = 0) => after(archiveFromTree(store, diffId), offset),
      [Symbol.asyncDispose]: async () => undefined,
    }
  }
  const scratch = await store.blobs.scratch()
  try {
    const hash = createHash('sha256')
    let size = 0
    const write = async (compressed: AsyncIterable<Buffer>): Promise<void> => {
      for await (const chunk of compressed) {
        hash.update(chunk)
        size += chunk.length
        scratch.write(chunk, LAYER_BYTES_MAX)
      }
    }
    const source = archiveFromTree(store, diffId)
    await pipeline(source, createGzip(), write, signal === undefined ? {} : { signal })
    const mediaType = mediaTypeLike(descriptor.mediaType, 'gzip')
    const made = { mediaType, digest: finish(hash, 'sha256'), size }
    return {
      descriptor: made,
      isExact: false,
      chunks: (offset = 0) => verified(fileChunks(scratch.path, offset), made, offset),
      [Symbol.asyncDispose]: async () => scratch[Symbol.dispose](),
    }
  } catch (error) {
    scratch[Symbol.dispose]()
    signal?.throwIfAborted()
    throw error
  }
}

/** The uncompressed archive of a layer by its recipe. DATA_LOSS at its end where it is not that of the diff id. */
export async function* archiveFromTree(
  store: ImageStore,
  diffId: Digest,
): AsyncGenerator<Uint8Array> {
  const hash = hasherOf(diffId)
  const { layers } = store
  for await (const chunk of cook(layers.recipePath(diffId), layers.treePath(diffId))) {
    hash.update(chunk)
    yield chunk
  }
  const actual = finish(hash, algorithmOf(diffId))
  if (actual !== diffId) throw mismatch(`layer ${diffId} on the disk`, diffId, actual)
}

async function* after(
  chunks: AsyncIterable<Uint8Array>,
  offset: number,
): AsyncGenerator<Uint8Array> {
  let skip = offset
  for await (const chunk of chunks) {
    if (skip < chunk.length) yield chunk.subarray(skip)
    skip = Math.max(0, skip - chunk.length)
  }
}

function fileChunks(path: string, offset: number): AsyncIterable<Uint8Array> {
  return createReadStream(path, { start: offset, highWaterMark: CHUNK_BYTES })
}

export function storedBlob(
  store: ImageStore,
  descriptor: Descriptor,
  isExact: boolean,
): LayerBytes {
  return {
    descriptor,
    isExact,
    chunks: (offset = 0) =>
      verified(fileChunks(store.blobs.path(descriptor.digest), offset), descriptor, offset),
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
