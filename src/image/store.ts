import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { ensureDirectory, readFileIfAny } from '../base/file.ts'
import { lockFile, tryLockFile } from '../kernel/lock.ts'
import { syncTogether } from '../kernel/sync.ts'
import { LayerStore, type ToDisk } from '../layer/store.ts'
import { isSmallLayer, isThreadWanted, takeThread, unpackLayer } from '../layer/unpack.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { BlobStore, type Ingest } from './blobs.ts'
import { Catalog } from './catalog.ts'
import { Channel } from './channel.ts'
import { algorithmOf } from './digest.ts'
import { Gathered } from './gather.ts'
import { LAYER_BYTES_MAX } from './manifest.ts'
import { SyncGroup } from './sync-group.ts'

/** Told of long work, in words for people: the same shape as the engine's. */
export type Progress = (event: {
  /** Short digest of the layer, or of the image. */
  readonly id: string
  readonly phase:
    | 'waiting'
    | 'downloading'
    | 'loading'
    | 'unpacking'
    | 'saving'
    | 'uploading'
    | 'mounted'
    | 'checking'
    | 'exists'
    | 'done'
  readonly done: number
  /** 0 where it is not known. */
  readonly total: number
}) => void

/** Images below one root. Any number of processes may have it open at once. */
export interface ImageStore {
  readonly root: string
  readonly blobs: BlobStore
  readonly catalog: Catalog
  readonly layers: LayerStore
  /** Sentences for the user. */
  readonly warn: (message: string) => void
}

/** Opens ROOT/images and ROOT/layers, making what is missing. */
export function openStore(
  root: string,
  options: {
    warn?: (message: string) => void
    /** Whether layers are on the disk before they count (see LayerStore); true. */
    durable?: boolean
  } = {},
): ImageStore {
  const directory = join(root, 'images')
  ensureDirectory(directory)
  return {
    root,
    blobs: new BlobStore(directory),
    catalog: new Catalog(
      directory,
      options.durable === undefined ? {} : { durable: options.durable },
    ),
    layers: new LayerStore(root, options.durable === undefined ? {} : { durable: options.durable }),
    warn: options.warn ?? (() => undefined),
  }
}

/** Releases on disposal. */
export interface Hold {
  release(): void
  [Symbol.dispose](): void
}

function contentLock(store: ImageStore): string {
  return join(store.root, 'images', 'content.lock')
}

function wanted(store: ImageStore): string {
  return join(store.root, 'images', 'collect')
}

/**
 * Keeps the collector away: while anybody holds, no blob and no layer is removed. A pull holds from before its first blob until its
 * image is in the catalog; whoever makes a container holds from choosing the image until the container's record is on the disk.
 * Any number hold at once. Never nest it with work that waits for another holder.
 */
export function holdContent(store: ImageStore, signal?: AbortSignal): Promise<Hold> {
  return lockFile(contentLock(store), { exclusive: false, signal })
}

/** The collector's own right: nobody holds. Undefined where somebody does; `wait` waits for them. */
export async function excludeHolders(
  store: ImageStore,
  options: { wait: boolean; signal?: AbortSignal | undefined },
): Promise<Hold | undefined> {
  if (options.wait) return lockFile(contentLock(store), { exclusive: true, signal: options.signal })
  return tryLockFile(contentLock(store), { exclusive: true })
}

/** Notes that something became unreferenced while others held the content: the next who may collect does. */
export const collectionNote = {
  set: (store: ImageStore): void => writeFileSync(wanted(store), ''),
  clear: (store: ImageStore): void => rmSync(wanted(store), { force: true }),
  isSet: (store: ImageStore): boolean => readFileIfAny(wanted(store)) !== undefined,
}

/** Twelve digits, as people know them from docker. */
export function shortId(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1, digest.indexOf(':') + 13)
}

/** Where a layer's bytes come from: all of them from `offset` on, in order, awaited one by one. */
export type Feed = (offset: number, consume: (chunk: Uint8Array) => Promise<void>) => Promise<void>

/**
 * Brings one layer into the store, blob and tree, in one pass over its bytes: they are written and hashed here and unpacked by the
 * layer store at the same time. The tree becomes visible only after the whole blob has its promised size and digest and the tar its
 * diff id; the blob after the tree. What is there already is not fetched.
 */
export async function storeLayer(
  store: ImageStore,
  options: {
    descriptor: Descriptor
    diffId: Digest
    feed: Feed
    phase: 'downloading' | 'loading'
    /** The blob too, where the tree alone would do. */
    isBlobWanted: boolean
    progress: Progress
    signal: AbortSignal | undefined
    /** All is brought and unpacked, and waits only for the disk: the next layer may begin. */
    onBrought?: () => void
    /** Of the image's layers; without it this one waits for no others. */
    group?: SyncGroup
  },
): Promise<void> {
  const { descriptor, diffId, signal, progress, group = new SyncGroup() } = options
  using member = group.join()
  const id = shortId(descriptor.digest)
  const total = descriptor.size
  const { digest } = descriptor
  // Another blob of the same tree, or this one: nothing to fetch for running it.
  const isEnough = () => !options.isBlobWanted && store.layers.has(diffId)
  if (isEnough()) {
    progress({ id, phase: 'exists', done: total, total })
    return
  }
  progress({ id, phase: 'waiting', done: 0, total })
  await using ingest = await member.aside(
    store.blobs.ingest(digest, { bytesMax: LAYER_BYTES_MAX, size: descriptor.size, signal }),
  )
  const toDisk = async (directory: string): Promise<void> => {
    // A small blob is whole before it is unpacked. A large one has a wait of its own, and is asked for once more when it is committed.
    const isSmall = isSmallLayer(total)
    if (isSmall) await member.ready()
    else member.leave()
    await syncTogether(directory)
    if (isSmall) ingest.synced(directory)
  }
  if (ingest.isStored && (await unpackStored(store, { ...options, id, toDisk }))) {
    progress({ id, phase: 'exists', done: total, total })
    return
  }
  if (isEnough()) {
    progress({ id, phase: 'exists', done: total, total })
    return
  }
  await fetchAndUnpack(store, ingest, { ...options, id, toDisk })
  await ingest.commit()
  progress({ id, phase: 'done', done: total, total })
}

/** From the blob that is here. False where the disk has spoilt it: it is dropped, and must be brought again. */
async function unpackStored(store: ImageStore, options: LayerWork): Promise<boolean> {
  const { descriptor, diffId, progress, id, signal, toDisk } = options
  if (store.layers.has(diffId)) return true
  const { digest, size } = descriptor
  const onProgress = (done: number): void => progress({ id, phase: 'unpacking', done, total: size })
  onProgress(0)
  try {
    const source = store.blobs.path(digest)
    const onUnpacked = (): void => options.onBrought?.()
    await unpack(store, { source, descriptor, diffId, signal, onProgress, onUnpacked, toDisk })
    return true
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    // An image that lies about a good blob's content must not cost another image that blob.
    if (await store.blobs.isIntact(digest)) throw error
    store.blobs.remove(digest)
    return false
  }
}

async function unpack(
  store: ImageStore,
  options: {
    source: string | AsyncIterable<Uint8Array>
    descriptor: Descriptor
    diffId: Digest
    signal: AbortSignal | undefined
    onProgress?: (bytes: number) => void
    thread?: Disposable
    onUnpacked?: () => void
    toDisk: ToDisk
  },
): Promise<void> {
  const { source, descriptor, diffId, signal, onProgress, thread, onUnpacked, toDisk } = options
  const { digest, size, mediaType } = descriptor
  await unpackLayer({
    store: store.layers,
    source,
    diffId,
    // What streams in is verified on this side before it ends. The layer store hashes with sha256: what is on the disk as sha512 was
    // verified before it got there, and the diff id tells.
    ...(typeof source === 'string' && algorithmOf(digest) === 'sha256'
      ? { digest }
      : { blob: digest }),
    size,
    mediaType,
    signal,
    onProgress,
    thread,
    onUnpacked,
    toDisk,
  })
}

type LayerWork = Parameters<typeof storeLayer>[1] & { id: string; toDisk: ToDisk }

async function fetchAndUnpack(
  store: ImageStore,
  ingest: Ingest,
  options: LayerWork,
): Promise<void> {
  for (let isFirst = true; ; isFirst = false) {
    const tried = await fetchOnce(store, ingest, options)
    if (tried.error === undefined) return
    const { error } = tried
    const mayPass =
      options.signal?.aborted === true || (error instanceof Fault && error.code === 'UNAVAILABLE')
    // What was cut off is worth keeping; what is wrong is not.
    if (!mayPass) ingest.restart()
    // The part of a killed process may hold what a power cut lost: then all is fetched anew, once.
    const isOldPart = tried.resumed > 0 && error instanceof Fault && error.code === 'DATA_LOSS'
    if (isFirst && isOldPart) continue
    throw error
  }
}

async function fetchOnce(
  store: ImageStore,
  ingest: Ingest,
  options: LayerWork,
): Promise<{ resumed: number; error: unknown }> {
  const { descriptor, diffId, progress, phase, id, signal, toDisk } = options
  const channel = new Channel()
  // Where all threads are at work, the bytes go to the disk and are unpacked from there: a transfer waits for no other image's. So does a
  // layer that is not worth a thread.
  using thread = isSmallLayer(descriptor.size) ? undefined : takeThread()
  if (thread === undefined) channel.leave()
  const total = descriptor.size
  let resumed = 0
  let isStopped = false
  const feed = async (): Promise<void> => {
    try {
      for await (const chunk of ingest.resume()) await channel.push(chunk)
      signal?.throwIfAborted()
      resumed = ingest.offset
      progress({ id, phase, done: resumed, total })
      const gathered = new Gathered(total - resumed, async (chunk) => {
        await ingest.write(chunk)
        await channel.push(chunk)
      })
      try {
        await options.feed(resumed, async (chunk) => {
          if (isStopped) throw new Stopped()
          await gathered.add(chunk)
          progress({ id, phase, done: ingest.offset + gathered.held, total })
        })
      } finally {
        // Where a transfer ends early, its next attempt goes on behind all that has come.
        if (!isStopped) await gathered.flush()
      }
      ingest.verify()
      channel.end()
    } catch (error) {
      channel.end(error)
      throw error
    }
  }
  const take = async (): Promise<void> => {
    if (thread === undefined) return
    try {
      const source = givingWay(channel)
      const onUnpacked = (): void => {
        thread[Symbol.dispose]()
        options.onBrought?.()
      }
      await unpack(store, { source, descriptor, diffId, signal, thread, onUnpacked, toDisk })
    } catch (error) {
      if (error instanceof GaveWay) return
      isStopped = true
      throw error
    } finally {
      // Also where another image's blob has just made the same tree, and ours is not read: the blob goes on without it.
      channel.leave()
      thread[Symbol.dispose]()
    }
  }
  const [fed, unpacked] = await Promise.allSettled([feed(), take()])
  const feedError: unknown = fed.status === 'rejected' ? fed.reason : undefined
  const unpackError: unknown = unpacked.status === 'rejected' ? unpacked.reason : undefined
  // The side that failed first made the other fail.
  const error = feedError === undefined || feedError instanceof Stopped ? unpackError : feedError
  if (error !== undefined || store.layers.has(diffId)) return { resumed, error }
  const onProgress = (done: number): void =>
    progress({ id, phase: 'unpacking', done, total: descriptor.size })
  try {
    const onUnpacked = (): void => options.onBrought?.()
    const source = ingest.path
    await unpack(store, { source, descriptor, diffId, signal, onProgress, onUnpacked, toDisk })
    return { resumed, error: undefined }
  } catch (late) {
    return { resumed, error: late }
  }
}

/** A source that says nothing for so long gives its thread to a layer that waits for one. */
const GIVE_WAY_MS = 5_000

class GaveWay extends Error {}

async function* givingWay(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]()
  for (;;) {
    const coming = iterator.next()
    // After giving way nobody waits for it.
    coming.catch(() => undefined)
    const next = await inTime(coming)
    if (next.done === true) return
    yield next.value
  }
}

async function inTime<T>(coming: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const wanted = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      if (isThreadWanted()) reject(new GaveWay())
    }, GIVE_WAY_MS)
  })
  try {
    return await Promise.race([coming, wanted])
  } finally {
    clearInterval(timer)
  }
}

/** Ends a feed whose consumer has failed. */
class Stopped extends Error {}
