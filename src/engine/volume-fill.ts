import { chmodSync, chownSync, openSync, readdirSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { AT_EMPTY_PATH, O_DIRECTORY, O_PATH, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { openInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { extractInto, packTree } from '../layer/index.ts'
import type { VolumeMount } from './mounts.ts'
import type { Engine } from './open.ts'

/**
 * An empty volume gets what the image holds at its place, owners and all (docker's rule), resolved inside the image: a link there leads to no file of the
 * host (CVE-2022-23648).
 */
export async function fillVolume(
  engine: Engine,
  volume: VolumeMount,
  lower: readonly string[],
): Promise<void> {
  if (volume.option.noCopy || readdirSync(volume.path).length > 0) return
  await copyFromImage(
    volume.path,
    volume.target,
    lower.map((path) => `${engine.root}/${path}`),
  )
}

/** Fills a directory of the host with what the layers (topmost first) hold at a place of the container. */
export async function copyFromImage(
  directory: string,
  place: string,
  lower: readonly string[],
): Promise<void> {
  using image = overlayMount({ lower })
  using source = openDirectoryIfAny(image.number, place)
  if (!source) return
  using target = new Fd(openSync(directory, O_RDONLY | O_DIRECTORY))
  await extractInto({
    rootFd: target.number,
    path: '',
    source: packTree({ rootFd: source.number, base: '.' }),
  })
  const { mode, uid, gid } = binding.statx(source.number, '', AT_EMPTY_PATH)
  chownSync(directory, uid, gid)
  chmodSync(directory, mode & 0o7777)
}

function openDirectoryIfAny(rootFd: number, path: string): Fd | undefined {
  try {
    return openInside(rootFd, path, O_PATH | O_DIRECTORY)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return
    throw error
  }
}
