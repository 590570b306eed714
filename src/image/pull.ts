import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest, Index, Manifest, Platform } from '../spec/image.ts'
import type { ImageRecord, NewName } from './catalog.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { machinePlatform } from './cpu.ts'
import { verifyBytes } from './digest.ts'
import {
  CONFIG_BYTES_MAX,
  checkRunnable,
  embeddedData,
  INDEX_DEPTH_MAX,
  isForeignLayer,
  parseConfig,
  parseDocument,
} from './manifest.ts'
import { choosePlatform, fit, formatPlatform, normalPlatform, parsePlatform } from './platform.ts'
import { type Chosen, readPolicy, requirementsFor } from './policy.ts'
import {
  DEFAULT_TAG,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
} from './reference.ts'
import type { FetchedManifest, Repository } from './registry.ts'
import { type AcceptedSignature, checkSignatures, refuseByPolicy } from './signatures.ts'
import { holdContent, type ImageStore, type Progress, storeLayer } from './store.ts'
import { SyncGroup } from './sync-group.ts'

/** Layers of one image fetched at a time (docker's and containerd's figure). */
const LAYERS_AT_ONCE = 3

export interface PullOptions extends RegistryOptions {
  /** `linux/arm64/v8`; the host's own where it is missing. */
  platform?: string | undefined
  progress?: Progress | undefined
  signal?: AbortSignal | undefined
  /** Layers that are fetched and unpacked at the same time; docker's number without. */
  layersAtOnce?: number | undefined
  /** The signature policy in place of /etc/berth/policy.json; must be there where it is given. */
  policyFile?: string | undefined
  /** Fetch the blobs also of layers whose tree is here: for whoever gives the image away. */
  blobs?: boolean | undefined
}

export interface Pulled {
  readonly id: Digest
  /** The full name now in the catalog. */
  readonly name: string
  /** What the name's digest is at the registry: of the index where there is one. */
  readonly digest: Digest
  /** False where the catalog already knew this name for this image. */
  readonly isNew: boolean
}

/**
 * Fetches an image from its registry into the store. Repeatable and joinable: what is there is not fetched again, two pulls at once
 * fetch each blob once, an interrupted one is taken up where it ended. The catalog learns of the image last.
 */
export async function pullImage(
  store: ImageStore,
  name: string,
  options: PullOptions = {},
): Promise<Pulled> {
  const { signal } = options
  const reference = parseReference(name)
  const wanted = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const chosen = choosePolicy(reference, options.policyFile)
  using repository = openRepository(reference, options, store.warn)
  using _hold = await holdContent(store, signal)
  const found = await resolveImage(store, repository, { reference, wanted, name, chosen, signal })
  const { manifest } = found
  checkRunnable(manifest, name)
  const configBytes = await configurationOf(store, repository, manifest.config, name, signal)
  const config = parseConfig(configBytes, `the configuration of ${name}`, manifest.layers.length)
  checkConfigPlatform(store, config, wanted, name)
  const diffIds = config.rootfs.diff_ids
  await fetchLayers(store, repository, { manifest, diffIds, name, options })
  for (const document of found.documents) await store.blobs.write(document.digest, document.bytes)
  await store.blobs.write(manifest.config.digest, configBytes)
  const record = imageRecord(manifest, found, config, diffIds)
  const names = namesOf(reference, found.top)
  const known = names.every(({ name: full }) => resolvesTo(store, full, record.id))
  await store.catalog.put(record, names)
  return {
    id: record.id,
    name: formatReference(reference),
    digest: found.top,
    isNew: !known,
  }
}

/** What the policy asks of an image; what it refuses in any case is refused here, before anything is asked of a registry. */
export function choosePolicy(reference: Reference, file: string | undefined): Chosen | undefined {
  const policy = readPolicy(file)
  if (policy === undefined) return undefined
  const chosen = requirementsFor(policy, reference)
  refuseByPolicy(chosen, formatReference(reference))
  return chosen
}

/** The documents behind a name at its registry, signed as `chosen` asks. */
export async function resolveImage(
  store: ImageStore,
  repository: Repository,
  asked: {
    reference: Reference
    wanted: Platform | undefined
    /** As the user wrote it. */
    name: string
    chosen: Chosen | undefined
    signal: AbortSignal | undefined
  },
): Promise<Found & { readonly top: Digest; readonly signatures: readonly AcceptedSignature[] }> {
  const { reference, chosen, signal } = asked
  const { tag = DEFAULT_TAG, digest } = reference
  const top = await repository.manifest(digest === undefined ? { tag } : { digest }, signal)
  const found = await findManifest(store, repository, top, {
    wanted: asked.wanted ?? machinePlatform(),
    what: asked.name,
    signal,
  })
  const digests = found.documents.map((document) => document.digest)
  const signatures =
    chosen === undefined
      ? []
      : await checkSignatures(repository, { reference, digests }, chosen, signal)
  return { ...found, top: top.digest, signatures }
}

function resolvesTo(store: ImageStore, name: string, id: Digest): boolean {
  try {
    return store.catalog.resolve(name).id === id
  } catch (error) {
    // What is damaged is written anew.
    if (error instanceof Fault && ['NOT_FOUND', 'DATA_LOSS'].includes(error.code)) return false
    throw error
  }
}

interface Found {
  readonly manifest: Manifest
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  /** Index and manifest, as bytes. */
  readonly documents: readonly FetchedManifest[]
}

/** From what a name stands for down to one image's manifest. */
async function findManifest(
  store: ImageStore,
  repository: Repository,
  top: FetchedManifest,
  options: { wanted: Platform; what: string; signal: AbortSignal | undefined },
): Promise<Found> {
  const documents = [top]
  let current = top
  for (let depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
    const document = parseDocument(
      current.bytes,
      current.mediaType,
      `the manifest of ${options.what}`,
    )
    if (document.kind === 'manifest') {
      const { manifest, mediaType } = document
      return { manifest, mediaType, digest: current.digest, size: current.bytes.length, documents }
    }
    const entry = chooseEntry(document.index, options.wanted, options.what)
    const bytes = await manifestBytes(store, repository, entry, options)
    current = { bytes, mediaType: entry.mediaType, digest: entry.digest }
    documents.push(current)
  }
  throw new Fault(
    'INVALID_ARGUMENT',
    `${options.what} nests indexes deeper than ${INDEX_DEPTH_MAX}`,
  )
}

function chooseEntry(index: Index, wanted: Platform, what: string): Descriptor {
  if (index.artifactType !== undefined) {
    throw new Fault(
      'UNIMPLEMENTED',
      `${what} is an artifact (${index.artifactType}), not an image that can be run`,
    )
  }
  return choosePlatform(index.manifests, wanted, what)
}

async function manifestBytes(
  store: ImageStore,
  repository: Repository,
  entry: Descriptor,
  options: { what: string; signal: AbortSignal | undefined },
): Promise<Buffer> {
  const bytes =
    embeddedData(entry, `a manifest of ${options.what}`) ??
    stored(store, entry) ??
    (await repository.manifest({ digest: entry.digest }, options.signal)).bytes
  if (bytes.length !== entry.size) {
    throw new Fault(
      'DATA_LOSS',
      `the manifest ${entry.digest} of ${options.what} has ${bytes.length} bytes where its index says ${entry.size}`,
    )
  }
  verifyBytes(bytes, entry.digest, `the manifest of ${options.what}`)
  return bytes
}

/** A small document that is in the store; undefined where it is not, or damaged there: then it is fetched again. */
function stored(store: ImageStore, descriptor: Descriptor): Buffer | undefined {
  try {
    return store.blobs.read(descriptor.digest, CONFIG_BYTES_MAX)
  } catch (error) {
    if (error instanceof Fault && (error.code === 'NOT_FOUND' || error.code === 'DATA_LOSS')) {
      return undefined
    }
    throw error
  }
}

async function configurationOf(
  store: ImageStore,
  repository: Repository,
  descriptor: Descriptor,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const given =
    embeddedData(descriptor, `the configuration of ${name}`) ?? stored(store, descriptor)
  if (given !== undefined) return checkSize(given, descriptor, name)
  // Pulls at once wait for each other here, as for a layer: one fetches.
  await using ingest = await store.blobs.ingest(descriptor.digest, {
    bytesMax: CONFIG_BYTES_MAX,
    size: descriptor.size,
    signal,
  })
  const come = ingest.isStored ? stored(store, descriptor) : undefined
  if (come !== undefined) return checkSize(come, descriptor, name)
  const bytes = await repository.smallBlob(descriptor, CONFIG_BYTES_MAX, signal)
  checkSize(bytes, descriptor, name)
  ingest.restart()
  await ingest.write(bytes)
  await ingest.commit()
  return bytes
}

function checkSize(bytes: Buffer, descriptor: Descriptor, name: string): Buffer {
  if (bytes.length === descriptor.size) return bytes
  throw new Fault(
    'DATA_LOSS',
    `the configuration of ${name} has ${bytes.length} bytes where its manifest says ${descriptor.size}`,
  )
}

/** An image without an index has no choice to offer: another platform than the one asked for is refused, than the host's warned of. */
export function checkConfigPlatform(
  store: ImageStore,
  config: Platform,
  wanted: Platform | undefined,
  name: string,
): void {
  const own = normalPlatform(config)
  if (own.os !== 'linux') {
    throw new Fault('UNIMPLEMENTED', `${name} is for ${own.os}; berth runs Linux images only`)
  }
  if (fit(own, wanted ?? machinePlatform()) !== undefined) return
  const text = `${name} is for ${formatPlatform(own)}, not ${formatPlatform(wanted ?? machinePlatform())}`
  if (wanted !== undefined) throw new Fault('NOT_FOUND', text)
  store.warn(text)
}

/** The record of an image whose documents are checked. */
export function imageRecord(
  manifest: Manifest,
  found: { mediaType: string; digest: Digest; size: number },
  config: Platform & { created?: string },
  diffIds: readonly Digest[],
): ImageRecord {
  let size = found.size + manifest.config.size
  for (const layer of manifest.layers) size += layer.size
  return {
    version: 1,
    id: manifest.config.digest,
    manifest: found.digest,
    manifestMediaType: found.mediaType,
    platform: normalPlatform(config),
    created: config.created ?? '',
    size,
    diffIds,
  }
}

function namesOf(reference: Reference, digest: Digest): NewName[] {
  const byDigest: NewName = { name: `${repositoryOf(reference)}@${digest}`, index: digest }
  return reference.digest === undefined
    ? [{ name: formatReference(reference), index: digest }, byDigest]
    : [byDigest]
}

/** Layers with the diff id of each, one entry a blob. One blob cannot have two diff ids. */
export function pairLayers(
  manifest: Manifest,
  diffIds: readonly Digest[],
  what: string,
): { descriptor: Descriptor; diffId: Digest }[] {
  const pairs = new Map<Digest, { descriptor: Descriptor; diffId: Digest }>()
  manifest.layers.forEach((descriptor, i) => {
    const diffId = diffIds[i]
    if (diffId === undefined) return
    const known = pairs.get(descriptor.digest)
    if (known === undefined) pairs.set(descriptor.digest, { descriptor, diffId })
    else if (known.diffId !== diffId || known.descriptor.size !== descriptor.size) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `${what} gives one layer two sizes or diff ids: ${descriptor.digest}`,
      )
    }
  })
  return [...pairs.values()]
}

async function fetchLayers(
  store: ImageStore,
  repository: Repository,
  work: { manifest: Manifest; diffIds: readonly Digest[]; name: string; options: PullOptions },
): Promise<void> {
  const { options, name } = work
  const pairs = pairLayers(work.manifest, work.diffIds, name)
  const width = options.layersAtOnce ?? LAYERS_AT_ONCE
  const group = new SyncGroup()
  await atOnce(pairs, width, options.signal, async ({ descriptor, diffId }, signal, onBrought) => {
    const data = embeddedData(descriptor, `a layer of ${name}`)
    try {
      await storeLayer(store, {
        descriptor,
        diffId,
        phase: 'downloading',
        isBlobWanted: options.blobs === true,
        progress: options.progress ?? (() => undefined),
        signal,
        onBrought,
        group,
        feed:
          data === undefined
            ? (offset, consume) => repository.blob(descriptor, { offset, consume, signal })
            : (offset, consume) => consume(data.subarray(offset)),
      })
    } catch (error) {
      if (!isForeignLayer(descriptor.mediaType)) throw error
      if (!(error instanceof Fault) || error.code !== 'NOT_FOUND') throw error
      throw new Fault(
        'UNIMPLEMENTED',
        `layer ${descriptor.digest} of ${name} is not distributed by its registry; berth fetches no layers from other addresses`,
        { cause: error },
      )
    }
  })
}

/** Items that have made way for others and are not done yet: each holds a few files open. */
const AFTERWORK_MAX = 64

/**
 * Runs the work on each item, so many at a time; the first failure calls off the rest and is thrown when all have ended. A work that only
 * waits for the disk calls `makeWay`, and the next begins beside it.
 */
export async function atOnce<T>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal, makeWay: () => void) => Promise<void>,
): Promise<void> {
  const own = new AbortController()
  const both = signal === undefined ? own.signal : AbortSignal.any([signal, own.signal])
  let next = 0
  let failure: { error: unknown } | undefined
  const running = new Set<Promise<void>>()
  const run = async (item: T, makeWay: () => void): Promise<void> => {
    try {
      both.throwIfAborted()
      await work(item, both, makeWay)
    } catch (error) {
      failure ??= { error }
      own.abort(error)
    }
  }
  const worker = async (): Promise<void> => {
    for (;;) {
      const item = items[next++]
      if (item === undefined || failure !== undefined) return
      await new Promise<void>((goOn) => {
        const whole: Promise<void> = run(item, () => {
          if (running.size < limit + AFTERWORK_MAX) goOn()
        }).then(() => {
          running.delete(whole)
          goOn()
        })
        running.add(whole)
      })
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  await Promise.all(running)
  if (failure !== undefined) throw failure.error
}
