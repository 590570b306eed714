import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { layersIfReadable } from './inspect.ts'
import { type LayerBytes, storedBlob } from './layer-bytes.ts'
import { isForeignLayer } from './manifest.ts'
import { parseReference, type Reference } from './reference.ts'
import { type ImageStore, type Progress, shortId } from './store.ts'
import type { Upload } from './upload.ts'

/** Other repositories of the registry that are asked for one blob. */
const MOUNT_SOURCES_MAX = 3

export interface PushOptions extends RegistryOptions {
  progress?: Progress | undefined
  signal?: AbortSignal | undefined
}

/** Where an image's blobs that are not kept here can be had. */
export interface Origin {
  readonly store: ImageStore
  /** Names at registries from which the image came. */
  readonly sources: readonly string[]
  /** Those of them whose registry does not answer. */
  readonly silent: Set<string>
  readonly options: PushOptions
}

/** What the blobs of one push share. */
export interface PushWork extends Origin {
  readonly upload: Upload
  /** Repositories of the same registry that are known to have a blob. */
  readonly mounts: ReadonlyMap<Digest, readonly string[]>
}

/**
 * Sees to it that a blob is there, as it is: found, mounted, or sent, and fetched before where it is not kept here. What its maker forbids to give away stays
 * where it is. False where nobody has it any more.
 */
export async function pushBlob(work: PushWork, descriptor: Descriptor): Promise<boolean> {
  const { store, upload, mounts } = work
  const { digest, size } = descriptor
  const progress = work.options.progress ?? (() => undefined)
  const tell = (phase: 'waiting' | 'exists' | 'mounted', done: number): void =>
    progress({ id: shortId(digest), phase, done, total: size })
  tell('waiting', 0)
  if (await upload.has(descriptor)) {
    tell('exists', size)
    return true
  }
  for (const from of mounts.get(digest) ?? []) {
    if (!(await upload.mount(digest, from))) continue
    tell('mounted', size)
    return true
  }
  if (isForeignLayer(descriptor.mediaType) && !store.blobs.has(digest)) {
    store.warn(`layer ${shortId(digest)} is not distributable and stays where its addresses lead`)
    return true
  }
  if (store.blobs.size(digest) !== size) await fetchBack(work, descriptor)
  if (store.blobs.size(digest) !== size) return false
  await using bytes = storedBlob(store, descriptor, true)
  await sendBlob(work, bytes, descriptor)
  return true
}

/** Progress is told of the blob that was asked for, whatever goes in its place. */
export async function sendBlob(
  { upload, options }: PushWork,
  bytes: LayerBytes,
  asked: Descriptor,
): Promise<void> {
  const id = shortId(asked.digest)
  const total = asked.size
  await upload.send({
    descriptor: bytes.descriptor,
    chunks: (offset) => bytes.chunks(offset),
    onSent: (done) => options.progress?.({ id, phase: 'uploading', done, total }),
  })
  options.progress?.({ id, phase: 'done', done: total, total })
}

/** Brings a blob that is not kept here from where the image was pulled from, if it is still there. */
export async function fetchBack(origin: Origin, descriptor: Descriptor): Promise<void> {
  const { store, options, silent } = origin
  for (const name of origin.sources) {
    if (silent.has(name)) continue
    try {
      return await fetchFrom(store, name, descriptor, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (!(error instanceof Fault) || error.code === 'RESOURCE_EXHAUSTED') throw error
      // It was asked often enough: the next blob does not wait for it again.
      if (error.code === 'UNAVAILABLE') silent.add(name)
    }
  }
}

async function fetchFrom(
  store: ImageStore,
  name: string,
  descriptor: Descriptor,
  options: PushOptions,
): Promise<void> {
  const { signal, progress } = options
  const { digest, size } = descriptor
  // A login that was given is for where the image goes.
  const from = { ...options, credentials: undefined }
  using repository = openRepository(parseReference(name), from, store.warn)
  await using ingest = await store.blobs.ingest(digest, { bytesMax: size, size, signal })
  if (ingest.isStored) return
  // What an earlier attempt left is hashed.
  for await (const _ of ingest.resume());
  for (;;) {
    const resumed = ingest.offset
    try {
      await repository.blob(descriptor, {
        offset: resumed,
        consume: async (chunk) => {
          await ingest.write(chunk)
          progress?.({
            id: shortId(digest),
            phase: 'downloading',
            done: ingest.offset,
            total: size,
          })
        },
        signal,
      })
      return await ingest.commit()
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
      ingest.restart()
      // The part of a killed process may hold what a power cut lost: then all is fetched anew.
      if (resumed === 0) throw error
    }
  }
}

/** The push of the image `id` to a repository, through `upload`. */
export function pushWork(
  store: ImageStore,
  upload: Upload,
  to: Reference,
  id: Digest,
  options: PushOptions,
): PushWork {
  return {
    ...{ store, upload, options },
    mounts: mountSources(store, to),
    sources: store.catalog.get(id).repoDigests,
    silent: new Set(),
  }
}

/** Repositories of the same registry that are known to have a blob, since an image was pulled from or pushed to them. */
function mountSources(store: ImageStore, reference: Reference): Map<Digest, string[]> {
  const sources = new Map<Digest, string[]>()
  for (const image of store.catalog.list(() => undefined)) {
    const paths = image.repoDigests
      .map((name) => parseReference(name))
      .filter(({ domain, path }) => domain === reference.domain && path !== reference.path)
      .map(({ path }) => path)
    if (paths.length === 0) continue
    for (const { digest } of layersIfReadable(store, image.manifest)) {
      const known = new Set([...(sources.get(digest) ?? []), ...paths])
      sources.set(digest, [...known].slice(0, MOUNT_SOURCES_MAX))
    }
  }
  return sources
}
