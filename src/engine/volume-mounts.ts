import { posix } from 'node:path'
import { Fault } from '../base/fault.ts'
import type { ImageConfig } from '../spec/image.ts'
import type { VolumeMount } from './mounts.ts'
import type { Engine } from './open.ts'
import type { MountOption, RunOptions } from './options.ts'
import { createVolume } from './volume.ts'

/** Volumes one image may declare. */
const IMAGE_VOLUMES_MAX = 256

/** The volumes of a container, one by one as they are made: those asked for by name or anonymous, and those that the image declares where nothing else is mounted. */
export async function* volumeMounts(
  engine: Engine,
  options: RunOptions,
  image: ImageConfig,
): AsyncGenerator<VolumeMount> {
  const asked = options.mounts.filter((mount) => mount.kind === 'volume')
  const taken = new Set(options.mounts.map((mount) => posix.normalize(mount.target)))
  const declared = Object.keys(image.config?.Volumes ?? {})
  if (declared.length > IMAGE_VOLUMES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `the image declares more than ${IMAGE_VOLUMES_MAX} volumes`,
    )
  }
  const implied = declared
    .map((path) => posix.join('/', path))
    .filter((path) => !taken.has(path) && path !== '/')
  for (const option of [...asked, ...implied.map(anonymous)]) {
    const volume = await createVolume(engine, { name: option.source, labels: {} })
    yield {
      name: volume.name,
      anonymous: volume.anonymous,
      target: option.target,
      path: volume.path,
      option,
    }
  }
}

const anonymous = (target: string): MountOption => ({
  kind: 'volume',
  source: '',
  target,
  readOnly: false,
  recursiveReadOnly: false,
  propagation: '',
  createSource: true,
  nonRecursive: false,
  idmap: true,
  noCopy: false,
  options: [],
})
