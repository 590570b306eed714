import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type StoreUsage, storeUsage } from '../image/usage.ts'
import { listContainers } from './find.ts'
import { containerRoots, openImages } from './images.ts'
import type { Engine } from './open.ts'
import { treeBytes } from './trees.ts'
import { listVolumes, volumeUsers } from './volume.ts'

/** Bytes on the disk (blocks, each inode once) of all that berth keeps below ROOT. */
export interface DiskUsage {
  readonly images: StoreUsage
  readonly containers: readonly {
    readonly id: string
    readonly name: string
    readonly imageId: string
    readonly state: string
    /** Upper directory: what the container has changed. */
    readonly changedBytes: number
    /** With its log and records: what its removal gives back. */
    readonly bytes: number
    readonly isActive: boolean
  }[]
  readonly volumes: readonly {
    readonly name: string
    readonly bytes: number
    readonly users: readonly string[]
  }[]
  /** Of `berth serve`'s pods, their containers and volumes; the kubelet removes them. */
  readonly podBytes: number
}

export async function diskUsage(engine: Engine): Promise<DiskUsage> {
  const containers = []
  for (const { record, status } of await listContainers(engine, { all: true })) {
    const { id, name, imageId } = record
    containers.push({
      id,
      name,
      imageId,
      state: status.state,
      changedBytes: await treeBytes(engine.at.upper(id)),
      bytes: await treeBytes(engine.at.container(id)),
      isActive: status.state !== 'stopped' && status.state !== 'created',
    })
  }
  const volumes = []
  for (const { name } of await listVolumes(engine)) {
    const bytes = await treeBytes(join(engine.at.volumes, name))
    volumes.push({ name, bytes, users: volumeUsers(engine, name) })
  }
  const pods = join(engine.root, 'pods')
  return {
    images: await storeUsage(openImages(engine), containerRoots(engine)),
    containers,
    volumes,
    podBytes: existsSync(pods) ? await treeBytes(pods) : 0,
  }
}
