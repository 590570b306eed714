import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { Fault, isErrno } from '../base/fault.ts'
import { decompress, detectCompression, MAGIC_BYTES } from '../layer/compress.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import type { ImageConfig } from '../spec/image.ts'
import { composeImage, storeFile } from './compose.ts'
import { hashFile, type Loaded, layerMediaType, tagName } from './load.ts'
import { LAYER_BYTES_MAX } from './manifest.ts'
import { hostPlatform, parsePlatform } from './platform.ts'
import { holdContent, type ImageStore, type Progress } from './store.ts'

const CHUNK_BYTES = 1024 * 1024

export interface ImportOptions {
  /** Missing: the image has no name, only its id. */
  name?: string | undefined
  /** The image's own defaults for running it. */
  config?: ImageConfig['config']
  platform?: string | undefined
  message?: string | undefined
  /** RFC 3339; given by the caller so that an import can be repeated to the same id. */
  created: string
  progress?: Progress | undefined
  signal?: AbortSignal | undefined
}

/** Makes a one-layer image of a root file system's tar, plain, gzip or zstd, from a path or a stream. The archive is kept as the layer's blob as it is. */
export async function importImage(
  store: ImageStore,
  source: string | AsyncIterable<Uint8Array>,
  options: ImportOptions,
): Promise<Loaded> {
  const { signal } = options
  const name = options.name === undefined ? undefined : tagName(options.name)
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  using _hold = await holdContent(store, signal)
  if (typeof source === 'string')
    return await importFile(store, source, { ...options, name, platform })
  using scratch = await store.blobs.scratch()
  for await (const chunk of source) {
    signal?.throwIfAborted()
    scratch.write(chunk, LAYER_BYTES_MAX)
  }
  return await importFile(store, scratch.path, { ...options, name, platform })
}

async function importFile(
  store: ImageStore,
  path: string,
  options: Omit<ImportOptions, 'platform'> & { platform: ReturnType<typeof hostPlatform> },
): Promise<Loaded> {
  const { start, size } = await headOf(path)
  const compression = detectCompression(start)
  const chunks = () =>
    createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Uint8Array>
  const digest = await hashFile(chunks())
  const diffId =
    compression === 'none' ? digest : await hashFile(decompress(chunks(), LAYER_LIMITS))
  const descriptor = { mediaType: layerMediaType(compression), digest, size }
  await storeFile(store, path, { descriptor, diffId }, options)
  const config: ImageConfig = {
    created: options.created,
    ...options.platform,
    config: options.config ?? {},
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: options.created, comment: options.message ?? 'berth import' }],
  }
  const names = options.name === undefined ? [] : [options.name]
  return composeImage(store, { config, layers: [{ descriptor, diffId }], names })
}

async function headOf(path: string): Promise<{ start: Buffer; size: number }> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, 'r')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR'))
      throw new Fault('NOT_FOUND', `there is no file ${path}`)
    throw error
  }
  try {
    const stat = await file.stat()
    if (!stat.isFile()) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `${path} is no file: berth import reads a tar archive from a file or from its standard input`,
      )
    }
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
    return { start: buffer.subarray(0, bytesRead), size: stat.size }
  } finally {
    await file.close()
  }
}
