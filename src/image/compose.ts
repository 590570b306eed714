import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { Fault } from '../base/fault.ts'
import { type Descriptor, type Digest, type ImageConfig, MEDIA_TYPES } from '../spec/image.ts'
import type { Image } from './catalog.ts'
import { digestOf, finish } from './digest.ts'
import { type Loaded, tagName } from './load.ts'
import {
  isForeignLayer,
  LAYER_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  ociManifest,
  parseDocument,
} from './manifest.ts'
import { imageRecord } from './pull.ts'
import { type ImageStore, type Progress, storeLayer } from './store.ts'

/** A layer as manifest and configuration name it. */
export interface ImageLayer {
  readonly descriptor: Descriptor
  readonly diffId: Digest
}

export interface MakeOptions {
  readonly progress?: Progress | undefined
  readonly signal?: AbortSignal | undefined
}

const CHUNK_BYTES = 1024 * 1024

/**
 * Puts a tar stream into the store as a layer, blob (gzip) and tree. The same bytes give the same blob: gzip's header has no time in it. The caller holds
 * the content.
 */
export async function makeLayer(
  store: ImageStore,
  tar: AsyncIterable<Uint8Array>,
  options: MakeOptions = {},
): Promise<ImageLayer> {
  const { signal } = options
  const whole = createHash('sha256')
  const packed = createHash('sha256')
  let size = 0
  using scratch = await store.blobs.scratch()
  // What fails in writing would be told as an abort of the reading.
  let failed: unknown
  const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of chunks) {
      packed.update(chunk)
      size += chunk.length
      try {
        scratch.write(chunk, LAYER_BYTES_MAX)
      } catch (error) {
        failed = error
        throw error
      }
    }
  }
  try {
    await pipeline(
      Readable.from(hashed(tar, whole), { objectMode: false, highWaterMark: CHUNK_BYTES }),
      createGzip({ chunkSize: CHUNK_BYTES }),
      write,
      signal === undefined ? {} : { signal },
    )
  } catch (error) {
    signal?.throwIfAborted()
    throw failed ?? error
  }
  const diffId = finish(whole, 'sha256')
  const digest = finish(packed, 'sha256')
  const descriptor = { mediaType: MEDIA_TYPES.ociLayerGzip, digest, size }
  await storeFile(store, scratch.path, { descriptor, diffId }, options)
  return { descriptor, diffId }
}

async function* hashed(
  source: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    hash.update(chunk)
    yield chunk
  }
}

/** Puts a file that is a layer's blob into the store, blob and tree. */
export async function storeFile(
  store: ImageStore,
  path: string,
  layer: ImageLayer,
  options: MakeOptions,
): Promise<void> {
  await storeLayer(store, {
    ...layer,
    phase: 'loading',
    // What is at hand is kept, for push and save.
    isBlobWanted: true,
    progress: options.progress ?? (() => undefined),
    signal: options.signal,
    feed: async (offset, consume) => {
      const chunks = createReadStream(path, { start: offset, highWaterMark: CHUNK_BYTES })
      for await (const chunk of chunks as AsyncIterable<Uint8Array>) await consume(chunk)
    },
  })
}

/** OCI's names of Docker's layer types: the bytes are the same. */
const OCI_TYPES: Readonly<Record<string, string>> = {
  [MEDIA_TYPES.dockerLayer]: MEDIA_TYPES.ociLayer,
  [MEDIA_TYPES.dockerLayerGzip]: MEDIA_TYPES.ociLayerGzip,
  [MEDIA_TYPES.dockerLayerZstd]: MEDIA_TYPES.ociLayerZstd,
}

/** The layers of an image in the store, base first, as an OCI manifest may name them again. */
export function layersOf(store: ImageStore, image: Image): ImageLayer[] {
  const what = `the manifest of image ${image.id}`
  const bytes = store.blobs.read(image.manifest, MANIFEST_BYTES_MAX)
  const document = parseDocument(bytes, image.manifestMediaType, what)
  if (document.kind !== 'manifest') throw new Fault('DATA_LOSS', `${what} is an index`)
  return document.manifest.layers.map(({ mediaType, digest, size, urls, annotations }, i) => {
    const diffId = image.diffIds[i]
    if (diffId === undefined) throw new Fault('DATA_LOSS', `${what} has more layers than diff ids`)
    const descriptor: Descriptor = { mediaType: OCI_TYPES[mediaType] ?? mediaType, digest, size }
    if (urls && isForeignLayer(mediaType)) descriptor.urls = urls
    if (annotations) descriptor.annotations = annotations
    return { descriptor, diffId }
  })
}

/** Writes configuration and manifest of an image whose layers are in the store, and names it. The caller holds the content. */
export async function composeImage(
  store: ImageStore,
  options: {
    readonly config: ImageConfig
    readonly layers: readonly ImageLayer[]
    readonly names: readonly string[]
  },
): Promise<Loaded> {
  const { config, layers } = options
  const names = options.names.map(tagName)
  const configBytes = Buffer.from(JSON.stringify(config))
  const manifest = ociManifest(
    configBytes,
    layers.map(({ descriptor }) => descriptor),
  )
  const manifestBytes = Buffer.from(JSON.stringify(manifest))
  const found = {
    mediaType: MEDIA_TYPES.ociManifest,
    digest: digestOf(manifestBytes),
    size: manifestBytes.length,
  }
  await store.blobs.write(manifest.config.digest, configBytes)
  await store.blobs.write(found.digest, manifestBytes)
  const diffIds = layers.map(({ diffId }) => diffId)
  const record = imageRecord(manifest, found, config, diffIds)
  await store.catalog.put(
    record,
    names.map((name) => ({ name })),
  )
  return { id: record.id, names }
}
