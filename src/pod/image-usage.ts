import { readdirSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { within } from '../base/within.ts'
import { openImages } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import { podContainerDirectories } from '../engine/pod-records.ts'
import { containerIds } from '../engine/record.ts'
import type { ImageStore } from '../image/store.ts'
import { treeUsage } from '../layer/store.ts'

export interface Usage {
  readonly bytes: number
  readonly inodes: number
}

/** A part of the node's file systems as the CRI's FilesystemUsage tells it. */
export interface FilesystemUsage {
  readonly timestampNs: bigint
  /** A directory on the file system in question. */
  readonly mountpoint: string
  readonly usedBytes: number
  readonly inodesUsed: number
}

export interface ImageFsInfo {
  readonly images: FilesystemUsage
  /** Writable layers, of pods' containers and of the command line's. */
  readonly containers: FilesystemUsage
  /** The file system that both are on. */
  readonly device: DeviceUsage
}

/** What a whole file system has. */
export interface DeviceUsage {
  readonly totalBytes: number
  readonly availableBytes: number
  readonly inodes: number
  readonly inodesFree: number
}

/** A writable layer is walked again at the earliest so long after the last time … */
const WALK_EVERY_MS = 60_000
/** … and after so many times as long as that took: a container with a million files costs the disk at most a twentieth of its time. */
const WALK_REST = 20
/** Of a layer beside its tree: its directory and its meta.json. */
const INODES_PER_LAYER = 2

// -- images ----------------------------------------------------------------------------------------------------------

/** What never changes under its name is read once: layers by diff id, blobs by digest. */
class ContentSizes {
  #layers = new Map<string, Usage>()
  #blobs = new Map<string, number>()

  layer(store: ImageStore, diffId: string): Usage | undefined {
    const known = this.#layers.get(diffId)
    if (known) return known
    const info = store.layers.get(diffId)
    if (!info) return undefined
    const usage = { bytes: info.size, inodes: info.inodes + INODES_PER_LAYER }
    this.#layers.set(diffId, usage)
    return usage
  }

  /** Two directories are read, and what is new in them. */
  total(store: ImageStore): Usage {
    const partial = store.blobs.partial()
    let { bytes } = partial
    let inodes = partial.files
    const layers = new Map<string, Usage>()
    for (const hex of readdirSync(join(store.layers.directory, 'sha256'))) {
      if (!/^[0-9a-f]{64}$/.test(hex)) continue
      const diffId = `sha256:${hex}`
      const usage = this.layer(store, diffId)
      if (usage === undefined) continue
      layers.set(diffId, usage)
      bytes += usage.bytes
      inodes += usage.inodes
    }
    this.#layers = layers
    const blobs = new Map<string, number>()
    for (const digest of store.blobs.digests()) {
      const size = this.#blobs.get(digest) ?? store.blobs.size(digest)
      if (size === undefined) continue
      blobs.set(digest, size)
      bytes += size
      inodes++
    }
    this.#blobs = blobs
    return { bytes, inodes }
  }
}

const sizesOfRoots = new Map<string, ContentSizes>()

function sizesOf(root: string): ContentSizes {
  const known = sizesOfRoots.get(root)
  if (known) return known
  const made = new ContentSizes()
  sizesOfRoots.set(root, made)
  return made
}

/** What an image takes on the disk: its blobs and its unpacked layers, shared ones included. */
export function imageBytes(
  store: ImageStore,
  image: { readonly size: number; readonly diffIds: readonly string[] },
): number {
  const sizes = sizesOf(store.root)
  let bytes = image.size
  for (const diffId of new Set(image.diffIds)) bytes += sizes.layer(store, diffId)?.bytes ?? 0
  return bytes
}

// -- writable layers -----------------------------------------------------------------------------------------------------

/** A writable layer at one moment. */
export interface LayerUsage extends Usage {
  readonly timestampNs: bigint
}

interface Measured extends LayerUsage {
  readonly nextMs: number
}

/**
 * The sizes of writable layers as they were last measured. Asking never walks a tree: what is old is measured afterwards, one tree after
 * the other, so that the next who asks finds it.
 */
class WritableLayers {
  readonly #measured = new Map<string, Measured>()
  readonly #queue = new Set<string>()
  #walking: Promise<void> | undefined
  readonly #warn: (message: string) => void

  constructor(warn: (message: string) => void) {
    this.#warn = warn
  }

  get(path: string): LayerUsage | undefined {
    const known = this.#measured.get(path)
    if (known === undefined || known.nextMs <= performance.now()) {
      this.#queue.add(path)
      void this.#walk()
    }
    return known
  }

  /** Resolves when each of them was measured once. */
  async measured(paths: readonly string[]): Promise<void> {
    const missing = paths.filter((path) => this.get(path) === undefined)
    if (missing.length > 0) await this.#walk()
  }

  forget(path: string): void {
    this.#measured.delete(path)
    this.#queue.delete(path)
  }

  /** Forgets all others. */
  keep(paths: ReadonlySet<string>): void {
    for (const path of this.#measured.keys()) if (!paths.has(path)) this.#measured.delete(path)
    for (const path of this.#queue) if (!paths.has(path)) this.#queue.delete(path)
  }

  /** The walk under way, or a new one; it ends with the queue. */
  #walk(): Promise<void> {
    if (this.#walking === undefined && this.#queue.size > 0) this.#walking = this.#walkQueue()
    return this.#walking ?? Promise.resolve()
  }

  async #walkQueue(): Promise<void> {
    try {
      for (;;) {
        const [path] = this.#queue
        if (path === undefined) return
        this.#queue.delete(path)
        await this.#measure(path)
      }
    } finally {
      // Before anybody else runs: what is asked for from here on begins a new walk.
      this.#walking = undefined
    }
  }

  async #measure(path: string): Promise<void> {
    const startMs = performance.now()
    const rest = (): number =>
      performance.now() + Math.max(WALK_EVERY_MS, (performance.now() - startMs) * WALK_REST)
    try {
      const usage = await treeUsage(path)
      this.#measured.set(path, { ...usage, timestampNs: nowNs(), nextMs: rest() })
    } catch (error) {
      // Removed meanwhile.
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) this.#measured.delete(path)
      else {
        const known = this.#measured.get(path)
        const none = { bytes: 0, inodes: 0, timestampNs: nowNs() }
        this.#measured.set(path, { ...(known ?? none), nextMs: rest() })
        this.#warn(`cannot measure ${path}: ${(error as Error).message}`)
      }
    }
  }
}

const writableOfRoots = new Map<string, WritableLayers>()

function writableOf(engine: Engine): WritableLayers {
  const known = writableOfRoots.get(engine.root)
  if (known) return known
  const made = new WritableLayers(engine.warn)
  writableOfRoots.set(engine.root, made)
  return made
}

/**
 * A writable layer's size, at most about a minute old; undefined before it was measured for the first time, which this call begins. Cheap: for
 * the statistics of every container.
 */
export function writableLayerUsage(engine: Engine, upper: string): LayerUsage | undefined {
  return writableOf(engine).get(upper)
}

/** Of a layer that is removed: its size is nobody's any more. */
export function forgetWritableLayer(engine: Engine, upper: string): void {
  writableOf(engine).forget(upper)
}

/** Waits, at most so long, until each of these writable layers was measured once. Those that were, however long ago, are not waited for. */
export async function layersMeasured(
  engine: Engine,
  uppers: readonly string[],
  withinMs: number,
): Promise<void> {
  try {
    await within(withinMs, writableOf(engine).measured(uppers))
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DEADLINE_EXCEEDED') throw error
  }
}

function* upperDirectories(engine: Engine): Generator<string> {
  for (const id of containerIds(engine)) yield engine.at.upper(id)
  for (const { path } of podContainerDirectories(engine.root)) yield join(path, 'upper')
}

/**
 * What images and writable layers take, and what the file system has left. kubelet asks every ten seconds: no tree is walked for it, and the
 * sizes of writable layers are those of the last minute.
 */
export async function imageFsInfo(engine: Engine): Promise<ImageFsInfo> {
  const { root } = engine
  const images = sizesOf(root).total(openImages(engine))
  const writable = writableOf(engine)
  const uppers = new Set(upperDirectories(engine))
  writable.keep(uppers)
  let timestampNs = nowNs()
  let usedBytes = 0
  let inodesUsed = 0
  for (const upper of uppers) {
    const usage = writable.get(upper)
    if (usage === undefined) continue
    usedBytes += usage.bytes
    inodesUsed += usage.inodes
    if (usage.timestampNs < timestampNs) timestampNs = usage.timestampNs
  }
  return {
    images: {
      timestampNs: nowNs(),
      mountpoint: root,
      usedBytes: images.bytes,
      inodesUsed: images.inodes,
    },
    containers: { timestampNs, mountpoint: root, usedBytes, inodesUsed },
    device: await deviceUsage(engine),
  }
}

/** The file system that images and writable layers are on. */
export async function deviceUsage({ root }: Engine): Promise<DeviceUsage> {
  const device = await statfs(root)
  return {
    totalBytes: device.blocks * device.bsize,
    availableBytes: device.bavail * device.bsize,
    inodes: device.files,
    inodesFree: device.ffree,
  }
}
