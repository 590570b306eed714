import { existsSync, readlinkSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { openImages } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import { readConfig } from '../image/inspect.ts'
import { holdContent, type ImageStore } from '../image/store.ts'
import { binding } from '../kernel/binding.ts'
import { AT_EMPTY_PATH, O_PATH, S_IFDIR, S_IFMT, S_IFREG } from '../kernel/constants.ts'
import { openInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { prepareChain } from '../layer/chain.ts'
import type { Digest, ImageConfig } from '../spec/image.ts'
import { collectIfWanted } from './image-collect.ts'

/** An image that is there, to make a container or a volume of. */
export interface UsableImage {
  readonly id: string
  readonly config: ImageConfig
  /** Its layers' trees below ROOT, topmost first: what a record's `lower` holds. */
  readonly lower: readonly string[]
}

export interface ImageVolume {
  readonly id: string
  /** For the record: below ROOT, topmost first. */
  readonly lower: readonly string[]
  /** The same as host directories, for a read-only overlay; one alone is bind mounted. */
  readonly directories: readonly string[]
  /** What is to be mounted, inside the image: every link resolved, no `..`, relative; '' is the image's root. */
  readonly path: string
  readonly isDirectory: boolean
}

/** PATH_MAX of Linux. */
const SUB_PATH_BYTES_MAX = 4096

/**
 * Gives `work` an image of the store and keeps the collector away until it has ended: by then a record on the disk must name what is used
 * (engine/pod-records.ts), or nothing does any more. NOT_FOUND where the image is not here; nothing is pulled.
 */
export async function useImage<T>(
  engine: Engine,
  ref: string,
  work: (image: UsableImage) => Promise<T>,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<T> {
  try {
    const store = openImages(engine)
    using _hold = await holdContent(store, options.signal)
    const { id } = store.catalog.resolve(ref)
    return await work(await usable(engine, store, id))
  } finally {
    // What the work has given or thrown counts, whatever becomes of a collection that others have asked for.
    await collectIfWanted(engine).catch((error) =>
      engine.warn(`unused images are not collected: ${describe(error)}`),
    )
  }
}

/** What an image's id names never changes: it is read once, as long as its layers are there. */
const usedBefore = new Map<string, UsableImage>()
const USED_BEFORE_MAX = 256

async function usable(engine: Engine, store: ImageStore, id: Digest): Promise<UsableImage> {
  const key = `${engine.root}\0${id}`
  const known = usedBefore.get(key)
  if (known?.lower.every((path) => existsSync(join(engine.root, path)))) return known
  const config = readConfig(store, id)
  const { lower } = await prepareChain(store.layers, config.rootfs.diff_ids)
  const image = { id, config, lower: lower.map((path) => relative(engine.root, path)) }
  if (usedBefore.size >= USED_BEFORE_MAX) usedBefore.clear()
  usedBefore.set(key, image)
  return image
}

/**
 * An image as a volume, whole or one place in it. Call it inside the `work` of useImage, whose hold keeps the layers. A sub-path that is missing
 * is NOT_FOUND, one that could lead out INVALID_ARGUMENT; links in it are resolved inside the image, as a container would.
 */
export function imageVolume(engine: Engine, image: UsableImage, subPath: string): ImageVolume {
  const { id, lower } = image
  checkSubPath(subPath)
  const directories = lower.map((path) => join(engine.root, path))
  const volume = { id, lower, directories }
  if (subPath === '') return { ...volume, path: '', isDirectory: true }
  using root = overlayMount({ lower: directories })
  using place = openPlace(root.number, subPath)
  const type = binding.statx(place.number, '', AT_EMPTY_PATH).mode & S_IFMT
  if (type !== S_IFDIR && type !== S_IFREG) {
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot mount ${shown(subPath)} of the image: it is neither a directory nor a regular file`,
    )
  }
  // Of a mount that is nowhere attached, the kernel writes the path from the mount's own root.
  const path = readlinkSync(`/proc/self/fd/${place.number}`).replace(/^\/+/, '')
  return { ...volume, path, isDirectory: type === S_IFDIR }
}

function checkSubPath(subPath: string): void {
  const refuse = (why: string): never => {
    throw new Fault('INVALID_ARGUMENT', `the sub-path ${shown(subPath)} of an image ${why}`)
  }
  if (Buffer.byteLength(subPath) > SUB_PATH_BYTES_MAX) refuse('is too long')
  if (subPath.includes('\0')) refuse('has a NUL in it')
  if (subPath.startsWith('/')) refuse('must be relative to its root')
  if (subPath.split('/').includes('..')) refuse('must not climb by ".."')
}

function openPlace(rootFd: number, subPath: string): ReturnType<typeof openInside> {
  try {
    return openInside(rootFd, subPath, O_PATH)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) throw error
    throw new Fault('NOT_FOUND', `the image has no ${shown(subPath)}`, { cause: error })
  }
}

function shown(subPath: string): string {
  return JSON.stringify(subPath.slice(0, 200))
}
