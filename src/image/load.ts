import { createHash } from 'node:crypto'
import { realpathSync, statSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { detectCompression, MAGIC_BYTES } from '../layer/compress.ts'
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Manifest,
  MEDIA_TYPES,
  type Platform,
} from '../spec/image.ts'
import { type Files, missing, openFiles, readSmall } from './archive.ts'
import { machinePlatform } from './cpu.ts'
import { algorithmOf, digestOf, finish, hexOf, verifyBytes } from './digest.ts'
import {
  artifactFault,
  CONFIG_BYTES_MAX,
  type Compression,
  checkRunnable,
  INDEX_DEPTH_MAX,
  INDEX_ENTRIES_MAX,
  isArtifact,
  LAYERS_MAX,
  MANIFEST_BYTES_MAX,
  MANIFEST_MEDIA_TYPES,
  ociManifest,
  parseConfig,
  parseDocument,
} from './manifest.ts'
import { choosePlatform, formatPlatform, parsePlatform } from './platform.ts'
import { type Policy, requirementsForArchive } from './policy.ts'
import { atOnce, checkConfigPlatform, imageRecord, pairLayers } from './pull.ts'
import { DEFAULT_TAG, formatReference, parseReference } from './reference.ts'
import { refuseArchive } from './signatures.ts'
import { holdContent, type ImageStore, type Progress, shortId, storeLayer } from './store.ts'
import { SyncGroup } from './sync-group.ts'

/** Images of one archive. */
const IMAGES_MAX = 256
const TAGS_MAX = 256
const LAYERS_AT_ONCE = 2

export interface LoadOptions {
  /** Which image of a multi-platform layout; the host's own where it is missing. */
  platform?: string | undefined
  /** For an archive of one image: this name in place of those the archive declares. */
  name?: string | undefined
  /** What archives must fulfil; none where it is missing. */
  policy?: Policy | undefined
  progress?: Progress | undefined
  signal?: AbortSignal | undefined
}

export interface Loaded {
  readonly id: Digest
  /** Full names now pointing at it; none for an archive that declares none. */
  readonly names: readonly string[]
}

/** One image found in an archive, everything checked but its layers' content. */
interface Candidate {
  readonly manifest: Manifest
  readonly manifestBytes: Buffer
  readonly mediaType: string
  readonly config: ImageConfig
  readonly configBytes: Buffer
  readonly names: Set<string>
  /** The archive's file of each layer's blob. */
  readonly files: ReadonlyMap<Digest, string>
}

/**
 * Loads every image of a docker-archive, an oci-archive (both perhaps compressed, from a path or a stream) or an OCI layout folder.
 * Nothing is visible before all of it is verified; names are those that the archive declares, and nothing else is touched.
 */
export async function loadArchive(
  store: ImageStore,
  source: string | AsyncIterable<Uint8Array>,
  options: LoadOptions = {},
): Promise<Loaded[]> {
  const { signal } = options
  const wanted = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const asked = options.name === undefined ? undefined : tagName(options.name)
  using _hold = await holdContent(store, signal)
  await using files = await openFiles(store.blobs, source, signal)
  if (options.policy !== undefined) await checkPolicy(options.policy, source, files)
  const candidates = await findImages(files, wanted, store.warn)
  if (asked !== undefined && candidates.length !== 1) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${files.what} holds ${candidates.length} images; one name cannot be given to all`,
    )
  }
  for (const candidate of candidates) {
    checkConfigPlatform(store, candidate.config, wanted, `an image of ${files.what}`)
    await storeLayers(store, files, candidate, options)
  }
  const loaded: Loaded[] = []
  for (const candidate of candidates) {
    const { manifest, manifestBytes, mediaType, config, configBytes } = candidate
    const digest = digestOf(manifestBytes)
    await store.blobs.write(manifest.config.digest, configBytes)
    await store.blobs.write(digest, manifestBytes)
    const names = asked === undefined ? [...candidate.names] : [asked]
    const found = { mediaType, digest, size: manifestBytes.length }
    const record = imageRecord(manifest, found, config, config.rootfs.diff_ids)
    await store.catalog.put(
      record,
      names.map((name) => ({ name })),
    )
    loaded.push({ id: record.id, names })
  }
  return loaded
}

async function checkPolicy(
  policy: Policy,
  source: string | AsyncIterable<Uint8Array>,
  files: Files,
): Promise<void> {
  const path = typeof source === 'string' ? realpathSync(source) : undefined
  const isFolder = path !== undefined && statSync(path).isDirectory()
  const isDocker = (await files.size('manifest.json')) !== undefined
  const transport = isFolder ? 'oci' : isDocker ? 'docker-archive' : 'oci-archive'
  refuseArchive(requirementsForArchive(policy, transport, path), files.what)
}

/** A full tagged name; a digest in it would claim what the archive's own manifest decides. */
export function tagName(name: string): string {
  const reference = parseReference(name)
  if (reference.digest !== undefined) {
    throw new Fault('INVALID_ARGUMENT', `${name} names a digest; give a name with a tag`)
  }
  return formatReference(reference)
}

async function storeLayers(
  store: ImageStore,
  files: Files,
  candidate: Candidate,
  options: LoadOptions,
): Promise<void> {
  const diffIds = candidate.config.rootfs.diff_ids
  const pairs = pairLayers(candidate.manifest, diffIds, `an image of ${files.what}`)
  const group = new SyncGroup()
  await atOnce(
    pairs,
    LAYERS_AT_ONCE,
    options.signal,
    async ({ descriptor, diffId }, signal, onBrought) => {
      const name = candidate.files.get(descriptor.digest)
      if (name === undefined) throw missing(files.what, descriptor.digest)
      await storeLayer(store, {
        descriptor,
        diffId,
        phase: 'loading',
        // What is at hand is kept, for push and save.
        isBlobWanted: true,
        progress: options.progress ?? (() => undefined),
        signal,
        onBrought,
        group,
        feed: async (offset, consume) => {
          for await (const chunk of files.chunks(name, offset)) {
            signal.throwIfAborted()
            await consume(chunk)
          }
        },
      })
    },
  )
}

async function findImages(
  files: Files,
  wanted: Platform | undefined,
  warn: (message: string) => void,
): Promise<Candidate[]> {
  const isLayout = (await files.size('oci-layout')) !== undefined
  const docker = await readSmall(files, 'manifest.json', MANIFEST_BYTES_MAX)
  if (!isLayout && docker === undefined) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${files.what} is no image archive: it has neither manifest.json nor oci-layout (a root file system is brought in with "berth import")`,
    )
  }
  const images = new Map<Digest, Candidate>()
  if (isLayout) {
    for (const candidate of await layoutImages(files, wanted, warn)) {
      const id = candidate.manifest.config.digest
      const known = images.get(id)
      if (known === undefined) images.set(id, candidate)
      else for (const name of candidate.names) known.names.add(name)
    }
  }
  // docker save writes both since version 25: the layout has the documents, manifest.json the names.
  if (docker !== undefined) await dockerImages(files, docker, images)
  if (images.size === 0) throw new Fault('INVALID_ARGUMENT', `${files.what} holds no image`)
  return [...images.values()]
}

// -- OCI layout -----------------------------------------------------------------------------------------

function blobName(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`
}

async function blobBytes(files: Files, descriptor: Descriptor, bytesMax: number): Promise<Buffer> {
  const name = blobName(descriptor.digest)
  const bytes = await readSmall(files, name, bytesMax)
  if (bytes === undefined) throw missing(files.what, name)
  if (bytes.length !== descriptor.size) {
    throw new Fault(
      'DATA_LOSS',
      `${name} in ${files.what} has ${bytes.length} bytes, not ${descriptor.size}`,
    )
  }
  verifyBytes(bytes, descriptor.digest, `${name} in ${files.what}`)
  return bytes
}

async function layoutImages(
  files: Files,
  wanted: Platform | undefined,
  warn: (message: string) => void,
): Promise<Candidate[]> {
  const bytes = await readSmall(files, 'index.json', MANIFEST_BYTES_MAX)
  if (bytes === undefined) throw missing(files.what, 'index.json')
  const top = parseDocument(bytes, MEDIA_TYPES.ociIndex, `index.json in ${files.what}`)
  if (top.kind !== 'index')
    throw new Fault('INVALID_ARGUMENT', `index.json in ${files.what} is no index`)
  if (top.index.manifests.length > IMAGES_MAX) throw tooMany(files)
  const candidates: Candidate[] = []
  const artifacts: Fault[] = []
  for (const entry of imagesOf(top.index.manifests, wanted ?? machinePlatform(), files.what)) {
    const found = await layoutImage(files, entry, wanted)
    if (found instanceof Fault) artifacts.push(found)
    else candidates.push(found)
  }
  const [first] = artifacts
  if (first !== undefined && candidates.length === 0) throw first
  for (const { message } of artifacts) warn(`${message}: it is not loaded`)
  return candidates
}

/** The entries of a layout's index that are images: of one image for several platforms, which share a name, the one that is wanted. */
function imagesOf(entries: readonly Descriptor[], wanted: Platform, what: string): Descriptor[] {
  const byName = new Map<string, Descriptor[]>()
  for (const entry of entries) {
    const [name = ''] = layoutName(entry)
    byName.set(name, [...(byName.get(name) ?? []), entry])
  }
  return [...byName].flatMap(([name, group]) => {
    const platforms = group.map(({ platform }) => platform && formatPlatform(platform))
    const isOneImage = !platforms.includes(undefined) && new Set(platforms).size === group.length
    if (group.length === 1 || !isOneImage) return group
    return [choosePlatform(group, wanted, name === '' ? what : `${name} in ${what}`)]
  })
}

function tooMany(files: Files): Fault {
  return new Fault('RESOURCE_EXHAUSTED', `${files.what} holds more than ${IMAGES_MAX} images`)
}

/** A Fault for an artifact, such as a signature beside the images. */
async function layoutImage(
  files: Files,
  top: Descriptor,
  wanted: Platform | undefined,
): Promise<Candidate | Fault> {
  const what = `image ${shortId(top.digest)} of ${files.what}`
  if (!MANIFEST_MEDIA_TYPES.includes(top.mediaType)) {
    return new Fault('UNIMPLEMENTED', `${what} is of type ${top.mediaType}, which is no image`)
  }
  let descriptor = top
  for (let depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
    const manifestBytes = await blobBytes(files, descriptor, MANIFEST_BYTES_MAX)
    const document = parseDocument(manifestBytes, descriptor.mediaType, what)
    if (document.kind === 'index') {
      descriptor = choosePlatform(document.index.manifests, wanted ?? machinePlatform(), what)
      continue
    }
    const { manifest, mediaType } = document
    if (isArtifact(manifest)) return artifactFault(manifest, what)
    checkRunnable(manifest, what)
    const configBytes = await blobBytes(files, manifest.config, CONFIG_BYTES_MAX)
    const config = parseConfig(configBytes, `the configuration of ${what}`, manifest.layers.length)
    for (const layer of manifest.layers) {
      const size = await files.size(blobName(layer.digest))
      if (size === undefined) throw missing(files.what, blobName(layer.digest))
      if (size !== layer.size) {
        throw new Fault(
          'DATA_LOSS',
          `${blobName(layer.digest)} in ${files.what} has ${size} bytes, not ${layer.size}`,
        )
      }
    }
    const names = new Set(layoutName(top))
    const layers = new Map(manifest.layers.map((layer) => [layer.digest, blobName(layer.digest)]))
    return { manifest, manifestBytes, mediaType, config, configBytes, names, files: layers }
  }
  throw new Fault('INVALID_ARGUMENT', `${what} nests indexes deeper than ${INDEX_DEPTH_MAX}`)
}

/**
 * The name that a layout's entry declares: containerd's and docker's annotation, else the specification's. A bare word there is no whole name: it
 * becomes one of this host's own, as podman reads it, and `latest` is a tag of nothing.
 */
function layoutName(entry: Descriptor): string[] {
  const annotations = new Map(Object.entries(entry.annotations ?? {}))
  const name =
    annotations.get('io.containerd.image.name') ??
    annotations.get('org.opencontainers.image.ref.name')
  if (name === undefined || name === '' || name === DEFAULT_TAG) return []
  return [tagName(/[/:]/.test(name) ? name : `localhost/${name.toLowerCase()}`)]
}

// -- docker-archive --------------------------------------------------------------------------------------------

interface DockerEntry {
  readonly config: string
  readonly tags: readonly string[]
  readonly layers: readonly string[]
}

function strings(value: unknown, max: number, what: string): string[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value) || value.some((entry) => typeof entry !== 'string')) {
    throw new Fault('INVALID_ARGUMENT', `${what} must be a list of text`)
  }
  if (value.length > max)
    throw new Fault('RESOURCE_EXHAUSTED', `${what} has more than ${max} entries`)
  return value.map(String)
}

function dockerEntries(bytes: Buffer, files: Files): DockerEntry[] {
  const what = `manifest.json in ${files.what}`
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${what} is not valid JSON`, { cause: error })
  }
  if (!Array.isArray(value)) throw new Fault('INVALID_ARGUMENT', `${what} must be a list`)
  if (value.length > Math.min(IMAGES_MAX, INDEX_ENTRIES_MAX)) throw tooMany(files)
  return value.map((entry: unknown): DockerEntry => {
    const fields = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<
      string,
      unknown
    >
    const config = fields['Config']
    if (typeof config !== 'string') throw new Fault('INVALID_ARGUMENT', `${what} names no Config`)
    return {
      config,
      tags: strings(fields['RepoTags'], TAGS_MAX, `RepoTags of ${what}`),
      layers: strings(fields['Layers'], LAYERS_MAX, `Layers of ${what}`),
    }
  })
}

async function dockerImages(
  files: Files,
  bytes: Buffer,
  images: Map<Digest, Candidate>,
): Promise<void> {
  for (const entry of dockerEntries(bytes, files)) {
    const configBytes = await readSmall(files, entry.config, CONFIG_BYTES_MAX)
    if (configBytes === undefined) throw missing(files.what, entry.config)
    const id = digestOf(configBytes)
    let candidate = images.get(id)
    if (candidate === undefined) {
      candidate = await dockerImage(files, entry, configBytes)
      images.set(id, candidate)
    }
    for (const tag of entry.tags) candidate.names.add(tagName(tag))
  }
}

/** A docker-archive has no manifest: one is made of what the archive holds, the same for the same archive. */
async function dockerImage(
  files: Files,
  entry: DockerEntry,
  configBytes: Buffer,
): Promise<Candidate> {
  const what = `image ${entry.config} of ${files.what}`
  const config = parseConfig(configBytes, what, entry.layers.length)
  const layers: Descriptor[] = []
  const names = new Map<Digest, string>()
  for (const [i, name] of entry.layers.entries()) {
    const diffId = config.rootfs.diff_ids[i]
    const size = await files.size(name)
    if (size === undefined || diffId === undefined) throw missing(files.what, name)
    const compression = detectCompression(await startOf(files, name))
    // An uncompressed layer's digest is its diff id: the content is checked against it as it is read.
    const digest = compression === 'none' ? diffId : await hashFile(files.chunks(name, 0))
    layers.push({ mediaType: layerMediaType(compression), digest, size })
    names.set(digest, name)
  }
  const manifest = ociManifest(configBytes, layers)
  return {
    manifest,
    manifestBytes: Buffer.from(JSON.stringify(manifest)),
    mediaType: MEDIA_TYPES.ociManifest,
    config,
    configBytes,
    names: new Set(),
    files: names,
  }
}

export function layerMediaType(compression: Compression): string {
  if (compression === 'gzip') return MEDIA_TYPES.ociLayerGzip
  return compression === 'zstd' ? MEDIA_TYPES.ociLayerZstd : MEDIA_TYPES.ociLayer
}

async function startOf(files: Files, name: string): Promise<Uint8Array> {
  for await (const chunk of files.chunks(name, 0)) return chunk.subarray(0, MAGIC_BYTES)
  return new Uint8Array(0)
}

/** sha256 of all chunks. */
export async function hashFile(chunks: AsyncIterable<Uint8Array>): Promise<Digest> {
  const hash = createHash('sha256')
  for await (const chunk of chunks) hash.update(chunk)
  return finish(hash, 'sha256')
}
