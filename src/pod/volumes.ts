import { absolute, invalid, list } from '../plan/check.ts'
import type { ImageConfig } from '../spec/image.ts'
import type { StoredConfig } from './types.ts'

/** Volumes that one image may declare. */
const VOLUMES_MAX = 128

/** Where an image wants volumes and the client mounts nothing: the caller makes a directory for each, filled with what the image holds there. */
export function imageVolumes(
  image: ImageConfig['config'],
  { mounts }: Pick<StoredConfig, 'mounts'>,
): string[] {
  const declared = list("the image's Volumes", Object.keys(image?.Volumes ?? {}), VOLUMES_MAX)
  const taken = new Set(
    mounts.map((mount, i) => absolute(`mounts[${i}].container_path`, mount.containerPath)),
  )
  const targets = declared.map((path) => {
    const field = "the image's Volumes"
    const target = absolute(field, path.startsWith('/') ? path : `/${path}`)
    if (target === '/') throw invalid(field, 'a volume at / would hide the image')
    return target
  })
  return [...new Set(targets)].filter((target) => !taken.has(target))
}
