import { mkdirSync, realpathSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import { Joins } from '../base/turns.ts'
import { binding } from '../kernel/binding.ts'
import { O_PATH } from '../kernel/constants.ts'
import { openInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { impossible, show } from '../plan/check.ts'
import type { MountPropagation } from '../spec/cri.ts'
import { within as settles } from './wait.ts'

/** A path that nothing answers for in this time is on a file server that is gone, or in a FUSE file system whose program hangs. */
const HOST_PATH_MS = 10_000
/** Paths that are waited for, each by a thread; the memory of one is small, and there is no way to end it. */
const HUNG_PATHS_MAX = 256

const looks = new Joins<void>()

/**
 * That host paths of mounts answer, before anything looks at them in the daemon's one thread: with a dead file server that would be the end of all other calls. One
 * that is missing or refused answers, too.
 */
export async function mustAnswer(
  mounts: readonly { readonly hostPath: string }[],
  withinMs = HOST_PATH_MS,
): Promise<void> {
  // One after the other: a container with many of them has one that hangs, at most.
  for (const [i, { hostPath }] of mounts.entries()) {
    if (!hostPath.startsWith('/') || hostPath.includes('\0')) continue
    if (looks.size >= HUNG_PATHS_MAX)
      throw new Fault('RESOURCE_EXHAUSTED', `${HUNG_PATHS_MAX} paths of this host do not answer`)
    // Asked for again while it hangs it costs no further thread.
    const asked = looks.join(hostPath, async () => {
      await binding.realPath(hostPath).catch(() => {})
    })
    if (await settles(asked, withinMs)) continue
    throw new Fault(
      'UNAVAILABLE',
      `mounts[${i}].host_path: ${show(hostPath)} does not answer: its file server is gone, or its file system hangs`,
    )
  }
}

/** Where a host path really is: what is mounted is what a link leads to (CRI). A missing directory is made, as containerd and CRI-O do and the kubelet counts on. */
export function hostSource(field: string, path: string): string {
  try {
    try {
      return realpathSync.native(path)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
      mkdirSync(path, { recursive: true, mode: 0o755 })
      return realpathSync.native(path)
    }
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EEXIST', 'EACCES', 'EROFS')) throw error
    throw new Fault('FAILED_PRECONDITION', `${field}: ${show(path)} cannot be mounted`, {
      cause: error,
    })
  }
}

/**
 * That an image, by its layers, has something at the path that a mount asks for: looked up inside it, so no link leads out (CVE-2022-23648). Layers do not change; the
 * start looks it up once more.
 */
export function checkImagePath(field: string, lower: readonly string[], path: string): void {
  using image = overlayMount({ lower })
  try {
    openInside(image.number, path === '' ? '.' : path, O_PATH).close()
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error
    throw new Fault('NOT_FOUND', `${field}: no ${show(path)} in the image`, { cause: error })
  }
}

export interface HostMount {
  readonly point: string
  readonly shared: boolean
  readonly slave: boolean
  /** What is mounted, such as /dev/sda1. */
  readonly source: string
}

/** The mount of the host that a path is on, by the text of /proc/self/mountinfo; the last one where several are stacked. */
export function mountOf(path: string, mountinfo: string): HostMount | undefined {
  let found: HostMount | undefined
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    const fields = left?.split(' ') ?? []
    const escaped = fields[4]
    if (escaped === undefined) continue
    const point = unescapeOctal(escaped)
    if (path !== point && !path.startsWith(point === '/' ? '/' : `${point}/`)) continue
    if (found && found.point.length > point.length) continue
    const optional = fields.slice(6)
    found = {
      point,
      shared: optional.some((tag) => tag.startsWith('shared:')),
      slave: optional.some((tag) => tag.startsWith('master:')),
      source: unescapeOctal(right?.split(' ')[1] ?? ''),
    }
  }
  return found
}

/** mountinfo writes space, tab, newline and backslash as \ooo. */
const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))

/** Mounts travel only from and to a mount of the host that sends or receives them: without it the volume would stay as it is, silently. */
export function checkPropagation(
  field: string,
  propagation: MountPropagation,
  source: string,
  mountinfo: string,
): void {
  const mount = mountOf(source, mountinfo)
  if (mount?.shared) return
  if (propagation === 'PROPAGATION_HOST_TO_CONTAINER' && mount?.slave) return
  const wanted = propagation === 'PROPAGATION_BIDIRECTIONAL' ? 'shared' : 'shared or slave'
  throw impossible(
    field,
    `${source} is on the mount ${mount?.point ?? '(none)'}, which is not ${wanted}`,
  )
}
