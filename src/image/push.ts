import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest, Manifest } from '../spec/image.ts'
import { openRepository } from './connect.ts'
import { digestOf } from './digest.ts'
import { readManifest } from './inspect.ts'
import { layerBytes } from './layer-bytes.ts'
import { atOnce, pairLayers } from './pull.ts'
import { type PushOptions, type PushWork, pushBlob, pushWork, sendBlob } from './push-blob.ts'
import {
  DEFAULT_TAG,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
} from './reference.ts'
import { holdContent, type ImageStore, shortId } from './store.ts'
import { Upload } from './upload.ts'

/** Layers of one image sent at a time. */
export const LAYERS_AT_ONCE = 3

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
  const work = pushWork(store, upload, reference, source.id, options)
  await atOnce(source.layers, LAYERS_AT_ONCE, signal, async (layer, each) => {
    const got = await pushLayer({ ...work, options: { ...options, signal: each } }, layer)
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

/** Sees to it that a layer is there. What went in its place, where that is not the layer's own blob. */
async function pushLayer(
  work: PushWork,
  layer: { readonly descriptor: Descriptor; readonly diffId: Digest },
): Promise<Descriptor | undefined> {
  const { store, upload, options } = work
  if (await pushBlob(work, layer.descriptor)) return undefined
  // Nobody has it any more: another goes in its place.
  await using bytes = await layerBytes(store, layer, options.signal)
  // What was cooked may be there from the push before.
  if (!(await upload.has(bytes.descriptor))) await sendBlob(work, bytes, layer.descriptor)
  return bytes.isExact ? undefined : bytes.descriptor
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
