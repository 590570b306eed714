import { chmodSync, closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { TEMPORARY } from '../base/file.ts'
import type { Spec } from '../spec/runtime.ts'
import { POD_ETC } from './network-etc.ts'
import type { PodPaths } from './paths.ts'

/** Below the kernel's limit of an overlay's layers (OVL_MAX_STACK, 500), with room. */
const LAYERS_MAX = 400

/** What native/init makes where it mounts on nothing. */
const DIRECTORY_MODE = 0o755
const FILE_MODE = 0o644

/**
 * The layers of a container's root with one more at the bottom, in which the pod's files in /etc have a place to be mounted on: most images have none, and a
 * place that is made in each container's own upper directory costs a copy of /etc and three files there. What an image has at these names hides it, and where
 * its /etc leaves nothing through, the places are made in the upper directory after all.
 */
export function withPlaces(at: PodPaths, lower: readonly string[], { mounts }: Spec): string[] {
  const isMounted = (name: string): boolean =>
    mounts?.some(({ destination }) => destination === `/etc/${name}`) === true
  if (lower.length >= LAYERS_MAX || !POD_ETC.every(isMounted)) return [...lower]
  if (!existsSync(at.places)) makePlaces(at.places)
  return [...lower, at.places]
}

/** Whole or not at all: it stays for all containers that come. */
function makePlaces(path: string): void {
  const temporary = `${path}${TEMPORARY}made`
  rmSync(temporary, { recursive: true, force: true })
  const etc = join(temporary, 'etc')
  mkdirSync(etc, { recursive: true })
  for (const name of POD_ETC) {
    const file = join(etc, name)
    closeSync(openSync(file, 'wx'))
    chmodSync(file, FILE_MODE)
  }
  for (const directory of [temporary, etc]) chmodSync(directory, DIRECTORY_MODE)
  renameSync(temporary, path)
}
