import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny } from '../base/file.ts'
import type { Digest } from '../spec/image.ts'
import { isMountedHere, isOwn, type MountNamespace, mayLive } from './mount-namespaces.ts'
import type { Engine } from './open.ts'
import { bootId } from './status.ts'

/** An image whose files are to be seen on the host. STATE/image-mounts/HEX.json, the mount is STATE/image-mounts/HEX. */
export interface ImageMount {
  readonly imageId: Digest
  readonly path: string
  /** Directories below ROOT that the mount is made of: the collector keeps them. */
  readonly lower: readonly string[]
}

/** With the mount namespace that has it. */
export interface MountRecord extends ImageMount, MountNamespace {
  readonly version: 1
  readonly bootId: string
}

/** As the collector needs it: also records whose mount is just being made or taken away. DATA_LOSS where one cannot be read. */
export function* imageMountRecords(engine: Engine): Generator<ImageMount> {
  for (const record of readImageMounts(engine)) {
    if (record.bootId !== bootId()) continue
    if (isOwn(record) || isMounted(record)) yield record
  }
}

/** Where they are, and the mounts. */
export function imageMountsDirectory(engine: Engine): string {
  return join(engine.state, 'image-mounts')
}

export function* readImageMounts(engine: Engine): Generator<MountRecord> {
  let names: string[]
  try {
    names = readdirSync(imageMountsDirectory(engine))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return
    throw error
  }
  for (const name of names) {
    if (!name.endsWith('.json')) continue
    const path = join(imageMountsDirectory(engine), name)
    const record = readJsonIfAny(path) as MountRecord | undefined
    if (record === undefined) continue
    if (record?.version !== 1 || !Array.isArray(record.lower)) {
      throw new Fault('DATA_LOSS', `${path} is damaged: unmount what is beside it and remove it`)
    }
    yield record
  }
}

/** Whether it is mounted here, or may be in the mount namespace that has made it: nobody sees into another one. */
export function isMounted(record: MountRecord): boolean {
  if (record.bootId !== bootId()) return false
  return isMountedHere(record.path) || (!isOwn(record) && mayLive(record))
}
