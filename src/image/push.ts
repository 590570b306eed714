import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest, Manifest } from '../spec/image.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { digestOf } from './digest.ts'
import { layersIfReadable, readManifest } from './inspect.ts'
import { type LayerBytes, layerBytes } from './layer-bytes.ts'
import { isForeignLayer } from './manifest.ts'
import { atOnce, pairLayers } from './pull.ts'
import {
  DEFAULT_TAG,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
} from './reference.ts'
import { holdContent, type ImageStore, type Progress, shortId } from './store.ts'
import { type BlobSource, Upload } from './upload.ts'

/** Layers of one image sent at a time. */
const LAYERS_AT_ONCE = 3
/** Other repositories of the registry that are asked for one blob. */
const MOUNT_SOURCES_MAX = 3

export interface PushOptions extends RegistryOptions {
  progress?: Progress | undefined
  signal?: AbortSignal | undefined
}

export interface Pushed {
  readonly id: Digest
  /** The full name, now at the registry. */
  readonly name: string
  /** What the name stands for there. */
  readonly digest: Digest
  readonly mediaType: string
  /** Bytes of the manifest. */
  readonly size: number
}

/** One image to be pushed, its documents read and checked. */
interface Source {
  readonly id: Digest
  readonly digest: Digest
  readonly mediaType: string
  readonly manifest: Manifest
  readonly bytes: Buffer
  readonly layers: readonly { descriptor: Descriptor; diffId: Digest }[]
}

/** Checks what an image may be pushed as: a tag. */
export function destinationOf(name: string): Reference {
  const reference = parseReference(name)
  if (reference.digest === undefined) return reference
  throw new Fault(
    'INVALID_ARGUMENT',
    `cannot push to ${name}: an image is pushed under a tag, and its digest comes of its content`,
  )
}

/**
 * Sends an image of the store to a registry under one name. Blobs that are there are not sent, those that another repository of the registry
 * has are mounted, the manifest comes last: the name is there whole or not at all. Repeatable. The manifest keeps its bytes and so
 * its digest, but where a layer's own archive can no longer be had another one of the same content goes in its place, and the user is told.
 */
export async function pushImage(
  store: ImageStore,
  image: string,
  destination: string,
  options: PushOptions = {},
): Promise<Pushed> {
  const { signal } = options
  const reference = destinationOf(destination)
  using _hold = await holdContent(store, signal)
  const source = sourceOf(store, image)
  using repository = openRepository(reference, options, store.warn)
  const upload = new Upload(repository.target, signal)
  const sent = new Map<Digest, Descriptor>()
  const mounts = mountSources(store, reference)
  const silent = new Set<string>()
  await atOnce(source.layers, LAYERS_AT_ONCE, signal, async (layer, each) => {
    const work = { upload, source, layer, mounts, silent, options: { ...options, signal: each } }
    const got = await pushLayer(store, work)
    if (got !== undefined) sent.set(layer.descriptor.digest, got)
  })
  await pushConfig(store, upload, source)
  const { bytes, digest } = manifestOf(store, source, sent)
  const headers = await upload.manifest(reference.tag ?? DEFAULT_TAG, bytes, source.mediaType)
  if (source.manifest.subject !== undefined && headers['oci-subject'] === undefined) {
    store.warn(`${reference.domain} does not list ${digest} among what refers to its subject`)
  }
  // What is known to be there is mounted by the next push, and shown by `images --digests`.
  if (digest === store.catalog.record(source.id)?.manifest) {
    await store.catalog.tag(source.id, `${repositoryOf(reference)}@${digest}`)
  }
  return {
    id: source.id,
    name: formatReference(reference),
    digest,
    mediaType: source.mediaType,
    size: bytes.length,
  }
}

function sourceOf(store: ImageStore, text: string): Source {
  const { id, manifest } = store.catalog.resolve(text)
  const image = store.catalog.get(id)
  const digest = manifest ?? image.manifest
  const document = readManifest(store, digest)
  const layers = pairLayers(document.manifest, image.diffIds, text)
  return { ...document, id, digest, layers }
}

type LayerWork = {
  readonly upload: Upload
  readonly source: Source
  readonly layer: { readonly descriptor: Descriptor; readonly diffId: Digest }
  readonly mounts: ReadonlyMap<Digest, readonly string[]>
  /** Names whose registry does not answer. */
  readonly silent: Set<string>
  readonly options: PushOptions
}

/** Sees to it that a layer is there. What went in its place, where that is not the layer's own blob. */
async function pushLayer(store: ImageStore, work: LayerWork): Promise<Descriptor | undefined> {
  const { upload, layer, mounts, options } = work
  const { descriptor } = layer
  const progress = options.progress ?? (() => undefined)
  const total = descriptor.size
  const id = shortId(descriptor.digest)
  const tell = (phase: 'waiting' | 'exists' | 'mounted' | 'done'): void =>
    progress({ id, phase, done: total, total })
  progress({ id, phase: 'waiting', done: 0, total })
  if (await upload.has(descriptor)) {
    tell('exists')
    return undefined
  }
  for (const from of mounts.get(descriptor.digest) ?? []) {
    if (!(await upload.mount(descriptor.digest, from))) continue
    tell('mounted')
    return undefined
  }
  if (isForeignLayer(descriptor.mediaType) && !store.blobs.has(descriptor.digest)) {
    // Its maker forbids to give it away, and whoever pulls the image gets it from him.
    store.warn(`layer ${id} is not distributable and stays where its addresses lead`)
    return undefined
  }
  if (store.blobs.size(descriptor.digest) !== total) await fetchBack(store, work)
  await using bytes = await layerBytes(store, layer, options.signal)
  if (!bytes.isExact && (await upload.has(bytes.descriptor))) {
    tell('exists')
    return bytes.descriptor
  }
  await upload.send(sourceFor(bytes, (done) => progress({ id, phase: 'uploading', done, total })))
  tell('done')
  return bytes.isExact ? undefined : bytes.descriptor
}

/**
 * Brings a blob that is no longer kept here back from where the image was pulled from, so that the manifest stays what it is. Where nobody has it
 * any more, another goes in its place.
 */
async function fetchBack(store: ImageStore, work: LayerWork): Promise<void> {
  const { source, layer, options, silent } = work
  for (const name of store.catalog.get(source.id).repoDigests) {
    if (silent.has(name)) continue
    try {
      return await fetchFrom(store, name, layer.descriptor, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (!(error instanceof Fault) || error.code === 'RESOURCE_EXHAUSTED') throw error
      // It was asked often enough: the next layer does not wait for it again.
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

function sourceFor(bytes: LayerBytes, onSent: (bytes: number) => void): BlobSource {
  return { descriptor: bytes.descriptor, chunks: (offset) => bytes.chunks(offset), onSent }
}

async function pushConfig(store: ImageStore, upload: Upload, source: Source): Promise<void> {
  const { config } = source.manifest
  if (await upload.has(config)) return
  const bytes = store.blobs.read(config.digest, config.size)
  await upload.send({
    descriptor: config,
    chunks: async function* (offset) {
      yield bytes.subarray(offset)
    },
    onSent: () => undefined,
  })
}

/** The manifest as it is, or with what went in place of layers. */
function manifestOf(
  store: ImageStore,
  source: Source,
  sent: ReadonlyMap<Digest, Descriptor>,
): { bytes: Buffer; digest: Digest } {
  if (sent.size === 0) return { bytes: source.bytes, digest: source.digest }
  const layers = source.manifest.layers.map((layer) => sent.get(layer.digest) ?? layer)
  const bytes = Buffer.from(JSON.stringify({ ...source.manifest, layers }))
  store.warn(
    `image ${shortId(source.id)} keeps its id but not its digest: the archives of ${sent.size} layers are no longer kept here, and others of the same content were pushed (berth pull --blobs fetches them)`,
  )
  return { bytes, digest: digestOf(bytes) }
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
