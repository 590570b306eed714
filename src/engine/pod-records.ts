import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { namesIn, readJsonIfAny } from '../base/file.ts'

/** What a container of a pod needs of the image store, as its record says it: an image's id and trees below ROOT, topmost first. */
export interface ImageUse {
  readonly imageId: string
  readonly lower: readonly string[]
}

/** The part of ROOT/pods/POD/containers/CONTAINER/record.json that the image store looks at. */
export interface PodContainerUse extends ImageUse {
  readonly pod: string
  readonly id: string
  /** Images that it has mounted as volumes. */
  readonly imageMounts: readonly ImageUse[]
}

/** ROOT/pods, where the CRI keeps its sandboxes and containers. */
export const podsDirectory = (root: string): string => join(root, 'pods')

/** Directories of all containers of pods, with a record or (being made, being removed) without. */
export function* podContainerDirectories(
  root: string,
): Generator<{ pod: string; id: string; path: string }> {
  for (const pod of namesIn(podsDirectory(root))) {
    const containers = join(podsDirectory(root), pod, 'containers')
    for (const id of namesIn(containers)) yield { pod, id, path: join(containers, id) }
  }
}

/**
 * Every container record of every pod. One that cannot be understood is DATA_LOSS: what it needs is not known, so nobody may take it for
 * unused.
 */
export function* podContainerRecords(root: string): Generator<PodContainerUse> {
  for (const { pod, id, path } of podContainerDirectories(root)) {
    const file = join(path, 'record.json')
    const value = readJsonIfAny(file)
    if (value === undefined) continue
    const { imageMounts, ...use } = (value ?? {}) as { imageMounts?: unknown }
    const volumes = imageMounts ?? []
    if (!isUse(use) || !Array.isArray(volumes) || !volumes.every(isUse)) {
      throw new Fault('DATA_LOSS', `${file} is damaged: it does not say which image it uses`)
    }
    const { imageId, lower } = use
    yield { pod, id, imageId, lower, imageMounts: volumes }
  }
}

function isUse(value: unknown): value is ImageUse {
  const use = value as Partial<ImageUse> | null
  return (
    typeof use?.imageId === 'string' &&
    Array.isArray(use.lower) &&
    use.lower.every((path) => typeof path === 'string')
  )
}
