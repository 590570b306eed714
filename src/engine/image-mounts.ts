import { mkdirSync, rmdirSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { hexOf } from '../image/digest.ts'
import { readConfig } from '../image/inspect.ts'
import { holdContent, shortId } from '../image/store.ts'
import { binding } from '../kernel/binding.ts'
import { MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY } from '../kernel/constants.ts'
import { lockFile } from '../kernel/lock.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { prepareChain } from '../layer/chain.ts'
import type { Digest } from '../spec/image.ts'
import {
  type ImageMount,
  imageMountsDirectory,
  isMounted,
  type MountRecord,
  readImageMounts,
} from './image-mount-records.ts'
import { openImages } from './images.ts'
import { isMountedHere, ownMountNamespace } from './mount-namespaces.ts'
import type { Engine } from './open.ts'
import { bootId } from './status.ts'

/**
 * Mounts an image's files read-only, without devices and setuid bits, in the mount namespace of the caller; repeatable. The record is written
 * before the mount and removed after it: killed between, there is a record without a mount, which the next command on mounts
 * takes away, never a mount that the collector does not know of. A reboot takes both.
 */
export async function mountImage(engine: Engine, text: string): Promise<ImageMount> {
  const store = openImages(engine)
  using _lock = await lockMounts(engine)
  using _hold = await holdContent(store)
  const { id } = store.catalog.resolve(text)
  const path = pathOf(engine, id)
  for (const known of settled(engine)) {
    if (known.imageId !== id) continue
    if (isMountedHere(path)) return known
    throw elsewhere(known)
  }
  const { lower } = await prepareChain(store.layers, readConfig(store, id).rootfs.diff_ids)
  using mount = overlayMount({ lower })
  const flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
  binding.mountSetattr(mount.number, flags, 0, false)
  const record: MountRecord = {
    version: 1,
    imageId: id,
    path,
    lower: lower.map((directory) => relative(engine.root, directory)),
    bootId: bootId(),
    ...ownMountNamespace(),
  }
  mkdirSync(path, { recursive: true, mode: 0o700 })
  writeFileAtomic(`${path}.json`, JSON.stringify(record))
  try {
    binding.moveMount(mount.number, path)
  } catch (error) {
    forget(path)
    throw error
  }
  return record
}

/** FAILED_PRECONDITION where it is not mounted, or somebody is in it; with `force` it goes out of sight at once and ends when they have left. */
export async function unmountImage(
  engine: Engine,
  text: string,
  options: { force: boolean },
): Promise<Digest> {
  const { id } = openImages(engine).catalog.resolve(text)
  using _lock = await lockMounts(engine)
  const mount = settled(engine).find(({ imageId }) => imageId === id)
  if (mount === undefined) {
    throw new Fault('FAILED_PRECONDITION', `image ${shortId(id)} is not mounted`)
  }
  if (!isMountedHere(mount.path)) throw elsewhere(mount)
  try {
    binding.unmount(mount.path, options.force)
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot unmount image ${shortId(id)}: something is in use below ${mount.path}; with --force it ends when that is over`,
      { cause: error },
    )
  }
  forget(mount.path)
  return id
}

/** Every image that is mounted. */
export async function listImageMounts(engine: Engine): Promise<ImageMount[]> {
  using _lock = await lockMounts(engine)
  return settled(engine).map(({ imageId, path, lower }) => ({ imageId, path, lower }))
}

function pathOf(engine: Engine, id: Digest): string {
  return join(imageMountsDirectory(engine), hexOf(id))
}

function lockMounts(engine: Engine): Promise<Disposable> {
  return lockFile(join(engine.at.locks, 'image-mounts'), { exclusive: true })
}

function elsewhere({ imageId, path }: MountRecord): Fault {
  return new Fault(
    'FAILED_PRECONDITION',
    `image ${shortId(imageId)} is mounted at ${path} in another mount namespace; unmount it there`,
  )
}

/** The records that count; those without a mount, of a kill, an ended namespace or the boot before, are taken away. Under the lock. */
function settled(engine: Engine): MountRecord[] {
  return [...readImageMounts(engine)].filter((record) => {
    if (isMounted(record)) return true
    forget(record.path)
    return false
  })
}

function forget(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
  rmSync(`${path}.json`, { force: true })
}
