import { existsSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, Fault } from '../base/fault.ts'
import type { Image } from '../image/catalog.ts'
import type { Roots } from '../image/collect.ts'
import { readConfig } from '../image/inspect.ts'
import { hostPlatform, normalPlatform, parsePlatform } from '../image/platform.ts'
import {
  collectionNote,
  type Hold,
  holdContent,
  type ImageStore,
  openStore,
} from '../image/store.ts'
import { onlySelf } from '../kernel/caller.ts'
import { prepareChain } from '../layer/chain.ts'
import { LayerStore } from '../layer/store.ts'
import type { Digest, ImageConfig } from '../spec/image.ts'
import { cachedLayers, clearBuildCache } from './build-cache.ts'
import { emit } from './events.ts'
import { imageMountRecords } from './image-mount-records.ts'
import type { Engine } from './open.ts'
import type { RunOptions } from './options.ts'
import { type ImageUse, podContainerRecords } from './pod-records.ts'
import { containerIds, readRecord } from './record.ts'
import type { Progress } from './types.ts'

/** Images that this repository makes itself, by the name that runs them: OCI layouts beside the program. */
const BUILT_IN: Readonly<Record<string, URL>> = {
  hello: new URL('../../rootfs/images/hello/', import.meta.url),
}

export interface RunnableImage {
  readonly id: string
  readonly config: ImageConfig
  /** Directories below ROOT, topmost first. */
  readonly lower: readonly string[]
}

const stores = new WeakMap<Engine, ImageStore>()

/** The same store each time: to open one makes its directories. */
export function openImages(engine: Engine): ImageStore {
  const store = stores.get(engine) ?? openStore(engine.root, { warn: engine.warn })
  stores.set(engine, store)
  return store
}

/** Keeps the collector away until released: from choosing an image until the container's record is on the disk. */
export function holdImages(engine: Engine): Promise<Hold> {
  return holdContent(openImages(engine))
}

/** The image that run and create name, pulled where `options.pull` says so. The caller holds the content (holdImages). */
export async function imageToRun(
  engine: Engine,
  options: Pick<RunOptions, 'image' | 'platform' | 'pull'>,
  progress?: Progress,
  signal?: AbortSignal,
): Promise<RunnableImage> {
  const store = openImages(engine)
  const id = await findOrPull(engine, store, options, { progress, signal })
  const config = readConfig(store, id)
  warnOfPlatform(engine, options, config)
  const layers = new LayerStore(engine.root)
  const { lower } = await prepareChain(layers, config.rootfs.diff_ids)
  return { id, config, lower: lower.map((path) => relative(engine.root, path)) }
}

async function findOrPull(
  engine: Engine,
  store: ImageStore,
  { image, platform, pull }: Pick<RunOptions, 'image' | 'platform' | 'pull'>,
  how: { progress: Progress | undefined; signal: AbortSignal | undefined },
): Promise<Digest> {
  const local = pull === 'always' ? undefined : findLocal(store, image, platform)
  if (local) return local
  const builtIn = BUILT_IN[image]
  if (builtIn && existsSync(builtIn)) {
    const id = await loadBuiltIn(store, image, builtIn)
    if (platform === undefined || isFor(store, id, platform)) return id
    throw new Fault(
      'NOT_FOUND',
      `the built-in image "${image}" is for this machine only, not for ${platform}`,
    )
  }
  if (pull === 'never') {
    throw new Fault(
      'NOT_FOUND',
      `no image "${image}"${platform === undefined ? '' : ` for ${platform}`} here, and --pull never forbids to fetch it; \`berth images\` lists what is here`,
    )
  }
  // Proxies, logins and how far it is: all are the caller's.
  onlySelf(engine.caller)
  const { pullImage } = await import('../image/pull.ts')
  const pulled = await pullImage(store, image, { platform, ...how })
  tellOfImage(engine, 'pull', pulled.id, pulled.name)
  return pulled.id
}

function findLocal(
  store: ImageStore,
  image: string,
  platform: string | undefined,
): Digest | undefined {
  try {
    const { id } = store.catalog.resolve(image)
    return platform === undefined || isFor(store, id, platform) ? id : undefined
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'NOT_FOUND') throw error
    return
  }
}

function isFor(store: ImageStore, id: Digest, platform: string): boolean {
  const wanted = parsePlatform(platform)
  const is = normalPlatform(readConfig(store, id))
  return (
    is.os === wanted.os &&
    is.architecture === wanted.architecture &&
    (is.variant === undefined || is.variant === wanted.variant)
  )
}

/** Without --platform an image is taken as it is; its programs may need an emulator of the host's. */
function warnOfPlatform(
  engine: Engine,
  { image, platform }: Pick<RunOptions, 'image' | 'platform'>,
  config: ImageConfig,
): void {
  const host = hostPlatform()
  const { os, architecture } = normalPlatform(config)
  if (platform !== undefined || (os === host.os && architecture === host.architecture)) return
  engine.warn(
    `the image "${image}" is for ${os}/${architecture} and this machine is ${host.os}/${host.architecture}`,
  )
}

async function loadBuiltIn(store: ImageStore, image: string, layout: URL): Promise<Digest> {
  const { loadArchive } = await import('../image/load.ts')
  const [loaded] = await loadArchive(store, fileURLToPath(layout), {
    name: `localhost/${image}:latest`,
  })
  if (!loaded)
    throw new Fault('DATA_LOSS', `the built-in image ${image} is empty; build berth anew`)
  return loaded.id
}

/** What containers, those of pods too, and the cache of builds need of the store: never collected while they stand. */
export function containerRoots(engine: Engine): Roots {
  const images = new Set<string>()
  const layers = new Set(cachedLayers(engine))
  const chains = new Set<string>()
  for (const { imageId, lower } of imageUses(engine)) {
    images.add(imageId)
    for (const path of lower) {
      const [, kind, hex] = /^layers\/(sha256|fixup)\/([0-9a-f]{64})\//.exec(path) ?? []
      if (hex !== undefined) (kind === 'fixup' ? chains : layers).add(`sha256:${hex}`)
    }
  }
  return { images, layers, chains }
}

function* imageUses(engine: Engine): Generator<ImageUse & { user: string }> {
  for (const id of containerIds(engine)) {
    const record = readRecord(engine, id)
    if (record) yield { ...record, user: `container ${record.name}` }
  }
  for (const { id, imageMounts, ...use } of podContainerRecords(engine.root)) {
    const user = `container ${id.slice(0, 12)} of a pod`
    yield { ...use, user }
    for (const volume of imageMounts) yield { ...volume, user }
  }
  for (const mount of imageMountRecords(engine)) {
    yield { ...mount, user: `its mount at ${mount.path}` }
  }
}

/** An event about an image. */
export function tellOfImage(engine: Engine, action: string, id: string, name: string): void {
  emit(engine, { type: 'image', action, id, name, attributes: {} })
}

/**
 * The collection that another command asked for while this one held the content. Called when it is let go; where others hold it now, one of them does it.
 */
export async function collectIfNoted(engine: Engine): Promise<void> {
  try {
    const store = openImages(engine)
    if (!collectionNote.isSet(store)) return
    const { collect } = await import('../image/collect.ts')
    await collect(store, { roots: () => containerRoots(engine), wait: false, partials: false })
  } catch (error) {
    // What was asked of this command is done.
    engine.warn(`unused layers are not collected yet: ${describe(error)}`)
  }
}

/** docker's rmi; images of containers are refused, with `force` only untagged. */
export async function removeImage(
  engine: Engine,
  ref: string,
  options: { force: boolean },
): Promise<{ untagged: string[]; deleted: string[] }> {
  const store = openImages(engine)
  const { removeImage: removeFromStore } = await import('../image/collect.ts')
  const { untagged, deleted } = await removeFromStore(store, ref, {
    force: options.force,
    users: (id) => [
      ...new Set(
        [...imageUses(engine)].filter((use) => use.imageId === id).map(({ user }) => user),
      ),
    ],
    roots: () => containerRoots(engine),
  })
  for (const each of untagged) tellOfImage(engine, 'untag', each, each)
  for (const each of deleted) tellOfImage(engine, 'delete', each, ref)
  return { untagged: [...untagged], deleted: [...deleted] }
}

export async function pruneImages(
  engine: Engine,
  all: boolean,
  isMeant?: (image: Image) => boolean,
): Promise<{ images: string[]; reclaimedBytes: number }> {
  const { pruneImages: pruneStore } = await import('../image/collect.ts')
  // A filter chooses images; it says nothing of steps.
  if (isMeant === undefined) clearBuildCache(engine)
  const { deleted, collected } = await pruneStore(openImages(engine), {
    all,
    isMeant,
    roots: () => containerRoots(engine),
  })
  return { images: [...deleted], reclaimedBytes: collected.reclaimedBytes }
}
