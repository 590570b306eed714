import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { TEMPORARY } from '../base/file.ts'
import type { Image } from '../image/catalog.ts'
import { listContainers } from './find.ts'
import { pruneImages, tellOfImage } from './images.ts'
import type { Engine } from './open.ts'
import { removeDebris } from './recover.ts'
import { removeContainer } from './remove.ts'
import { treeBytes } from './trees.ts'
import { listVolumes, removeVolume, volumeUsers } from './volume.ts'

/** Stopped containers, unused images (dangling, or all), unused volumes when asked, and the debris of killed commands always. */
export async function pruneEngine(
  engine: Engine,
  options: {
    containers: boolean
    images: boolean
    allImages: boolean
    /** Only these. */
    isImageMeant?: ((image: Image) => boolean) | undefined
    volumes: boolean
  },
): Promise<{ containers: string[]; images: string[]; volumes: string[]; reclaimedBytes: number }> {
  const containers = await removeDebris(engine)
  let reclaimedBytes = 0
  if (options.containers) {
    for (const { record, status } of await listContainers(engine, { all: true })) {
      if (status.state !== 'stopped' && status.state !== 'created') continue
      reclaimedBytes += await treeBytes(engine.at.container(record.id))
      await removeContainer(engine, record.id, { force: false, volumes: false })
      containers.push(record.id)
    }
  }
  const volumes: string[] = []
  if (options.volumes) {
    for (const volume of await listVolumes(engine)) {
      if (volumeUsers(engine, volume.name).length > 0) continue
      reclaimedBytes += await treeBytes(volume.path)
      await removeVolume(engine, volume.name, { force: true })
      volumes.push(volume.name)
    }
  }
  // Half made and half removed volumes, out of sight by their names.
  for (const name of readdirSync(engine.at.volumes)) {
    if (name.startsWith(TEMPORARY))
      rmSync(join(engine.at.volumes, name), { recursive: true, force: true })
  }
  let images: string[] = []
  if (options.images) {
    const pruned = await pruneImages(engine, options.allImages, options.isImageMeant)
    images = pruned.images
    reclaimedBytes += pruned.reclaimedBytes
    for (const id of images) tellOfImage(engine, 'delete', id, id)
  }
  return { containers, images, volumes, reclaimedBytes }
}
