import { Fault } from '../base/fault.ts'
import { END_OF_ARCHIVE, encodeEntry, padding } from '../layer/tar-writer.ts'
import { type Descriptor, type Digest, type Manifest, MEDIA_TYPES } from '../spec/image.ts'
import type { Image } from './catalog.ts'
import type { RegistryOptions } from './connect.ts'
import { algorithmOf, digestOf, hexOf } from './digest.ts'
import { readManifest } from './inspect.ts'
import { type LayerBytes, layerBytes, withLayers } from './layer-bytes.ts'
import { fetchBack, type Origin } from './push-blob.ts'
import { DEFAULT_TAG, familiarName, parseReference } from './reference.ts'
import { type ImageStore, type Progress, shortId } from './store.ts'

/**
 * `docker-archive` is what docker save writes since version 25: an OCI layout with a manifest.json beside it, which older readers go by.
 * `oci-archive` is the layout alone. An archive or a folder of either holds the same files.
 */
export type SaveFormat = 'docker-archive' | 'oci-archive'

/** A file of the archive. Names are relative; `chunks` may be called once. */
export interface SavedFile {
  readonly name: string
  readonly size: number
  chunks(): AsyncIterable<Uint8Array>
}

/** Images ready to be written. The caller holds the content (holdContent) until it is disposed of. */
export interface SavedImages {
  /** In the order of their names: the same images give the same bytes, whoever saves them and when. */
  readonly files: readonly SavedFile[]
  readonly images: readonly { readonly id: Digest; readonly names: readonly string[] }[]
  [Symbol.asyncDispose](): Promise<void>
}

/** The registries are those from which layers come whose archives are not kept here. */
export interface SaveOptions extends RegistryOptions {
  readonly format: SaveFormat
  readonly progress?: Progress
  /** Ends the gathering, and the writing of the files with the next piece. */
  readonly signal?: AbortSignal | undefined
}

/** One manifest that is saved, under all the names asked for. */
interface Chosen {
  readonly image: Image
  readonly digest: Digest
  readonly names: string[]
}

/**
 * Gathers images by name or id into the files of one archive. An image asked for by id travels without a name (docker's way). Blobs are
 * those that the manifests name, so digests stay; where one is not kept here the manifest names what goes in its place, and the user
 * is told. NOT_FOUND, FAILED_PRECONDITION where a layer's archive cannot be had.
 */
export async function gatherImages(
  store: ImageStore,
  texts: readonly string[],
  options: SaveOptions,
): Promise<SavedImages> {
  const chosen = choose(store, texts)
  const layers: LayerBytes[] = []
  const dispose = async (): Promise<void> => {
    for (const layer of layers) await layer[Symbol.asyncDispose]()
  }
  try {
    const files = await filesOf(store, chosen, layers, options)
    const images = chosen.map(({ image, names }) => ({ id: image.id, names }))
    return { files, images, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** What it opens on the way goes into `layers`. */
async function filesOf(
  store: ImageStore,
  chosen: readonly Chosen[],
  layers: LayerBytes[],
  options: SaveOptions,
): Promise<SavedFile[]> {
  const files = new Map<string, SavedFile>()
  const index: Descriptor[] = []
  const docker: object[] = []
  for (const { image, digest, names } of chosen) {
    const written = await gatherImage(store, { image, digest }, { ...options, files, layers })
    const descriptors = names.map((name) => ({
      ...written.descriptor,
      annotations: annotationsOf(name, options.format),
    }))
    index.push(...(descriptors.length > 0 ? descriptors : [written.descriptor]))
    docker.push({
      Config: blobName(written.manifest.config.digest),
      RepoTags: names.length > 0 ? names.map(familiarName) : null,
      Layers: written.manifest.layers.map((layer) => blobName(layer.digest)),
    })
  }
  const add = (name: string, content: unknown): void => addBytes(files, name, json(content))
  add('oci-layout', { imageLayoutVersion: '1.0.0' })
  add('index.json', { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: index })
  if (options.format === 'docker-archive') add('manifest.json', docker)
  return [...files.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function choose(store: ImageStore, texts: readonly string[]): Chosen[] {
  const chosen = new Map<Digest, Chosen>()
  for (const text of texts) {
    const { id, name, manifest } = store.catalog.resolve(text)
    const image = store.catalog.get(id)
    const digest = manifest ?? image.manifest
    const known = chosen.get(digest) ?? { image, digest, names: [] }
    chosen.set(digest, known)
    // A name by digest names nothing in an archive: the digest there is the manifest's own.
    if (name === undefined || name.includes('@') || known.names.includes(name)) continue
    known.names.push(name)
    known.names.sort()
  }
  return [...chosen.values()]
}

function annotationsOf(name: string, format: SaveFormat): Record<string, string> {
  const tag = parseReference(name).tag ?? DEFAULT_TAG
  return {
    'io.containerd.image.name': name,
    // docker writes the tag; podman, umoci and skopeo find an image in a layout of several by its whole name.
    'org.opencontainers.image.ref.name': format === 'docker-archive' ? tag : name,
  }
}

async function gatherImage(
  store: ImageStore,
  { image, digest }: { image: Image; digest: Digest },
  work: SaveOptions & { files: Map<string, SavedFile>; layers: LayerBytes[] },
): Promise<{ manifest: Manifest; descriptor: Descriptor }> {
  const { files } = work
  const document = readManifest(store, digest)
  const origin: Origin = {
    store,
    sources: image.repoDigests,
    silent: new Set(),
    options: work,
  }
  const layers: LayerBytes[] = []
  for (const [i, descriptor] of document.manifest.layers.entries()) {
    const diffId = image.diffIds[i]
    if (diffId === undefined) {
      throw new Fault('DATA_LOSS', `image ${shortId(image.id)} has no diff id for layer ${i + 1}`)
    }
    const layer = await layerOf(origin, { descriptor, diffId })
    work.layers.push(layer)
    layers.push(layer)
    addBlob(files, layer.descriptor, () => told(layer, work))
  }
  const changed = withLayers(document.manifest, layers)
  const manifest = changed ?? document.manifest
  const manifestBytes = changed === undefined ? document.bytes : json(changed)
  if (changed !== undefined) {
    store.warn(
      `image ${shortId(image.id)} keeps its id but not its digest: layers are packed anew, since their own archives are not kept here (berth pull --blobs fetches them)`,
    )
  }
  const config = store.blobs.read(manifest.config.digest, manifest.config.size)
  addBlob(files, manifest.config, () => chunksOf(config))
  const descriptor = {
    mediaType: document.mediaType,
    digest: changed === undefined ? digest : digestOf(manifestBytes),
    size: manifestBytes.length,
  }
  addBlob(files, descriptor, () => chunksOf(manifestBytes))
  return { manifest, descriptor: { ...descriptor, platform: image.platform } }
}

/**
 * Where nothing of a layer but its tree is left (another image's removal has taken its archive, a build's cache or a container has kept the tree),
 * its archive comes back from the image's registry, as it does for a push.
 */
async function layerOf(
  origin: Origin,
  layer: { readonly descriptor: Descriptor; readonly diffId: Digest },
): Promise<LayerBytes> {
  const { store, options } = origin
  try {
    return await layerBytes(store, layer, options.signal)
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'FAILED_PRECONDITION') throw error
    await fetchBack(origin, layer.descriptor)
    return await layerBytes(store, layer, options.signal)
  }
}

async function* told(
  layer: LayerBytes,
  { progress, signal }: SaveOptions,
): AsyncGenerator<Uint8Array> {
  const id = shortId(layer.descriptor.digest)
  const total = layer.descriptor.size
  let done = 0
  for await (const chunk of layer.chunks()) {
    signal?.throwIfAborted()
    progress?.({ id, phase: 'saving', done, total })
    yield chunk
    done += chunk.length
  }
  progress?.({ id, phase: 'done', done: total, total })
}

function blobName(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`
}

function addBlob(
  files: Map<string, SavedFile>,
  { digest, size }: Descriptor,
  chunks: () => AsyncIterable<Uint8Array>,
): void {
  const name = blobName(digest)
  if (!files.has(name)) files.set(name, { name, size, chunks })
}

function addBytes(files: Map<string, SavedFile>, name: string, bytes: Buffer): void {
  files.set(name, { name, size: bytes.length, chunks: () => chunksOf(bytes) })
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  if (bytes.length > 0) yield bytes
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

/** The files as a tar stream; nothing in it tells of this machine or of now. */
export async function* archiveOf(files: readonly SavedFile[]): AsyncGenerator<Uint8Array> {
  const made = new Set<string>()
  for (const { name, size, chunks } of files) {
    for (const directory of directoriesOf(name)) {
      if (made.has(directory)) continue
      made.add(directory)
      yield header('directory', directory, 0)
    }
    yield header('file', name, size)
    yield* chunks()
    const pad = padding(size)
    if (pad.length > 0) yield pad
  }
  yield END_OF_ARCHIVE
}

/** Directories above a file, the outermost first. */
export function directoriesOf(name: string): string[] {
  const parts = name.split('/').slice(0, -1)
  return parts.map((_, i) => parts.slice(0, i + 1).join('/'))
}

function header(kind: 'file' | 'directory', path: string, size: number): Buffer {
  return encodeEntry({
    kind,
    path,
    link: '',
    mode: kind === 'file' ? 0o644 : 0o755,
    uid: 0,
    gid: 0,
    size,
    mtimeNs: 0n,
    major: 0,
    minor: 0,
    xattrs: new Map(),
  })
}
