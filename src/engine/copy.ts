import { posix } from 'node:path'
import { Readable } from 'node:stream'
import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { AT_EMPTY_PATH, O_NOFOLLOW, O_PATH, S_IFDIR, S_IFMT, S_IFREG } from '../kernel/constants.ts'
import type { Fd } from '../kernel/fd.ts'
import { openInside } from '../kernel/inside.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { extractInto, packTree, textName } from '../layer/index.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import { openRoot } from './live.ts'
import type { Engine } from './open.ts'
import { lockContainer, readConfig } from './record.ts'
import { about } from './start.ts'
import { renewWork, WHOLE_CHANGES } from './trees.ts'
import type { Container } from './types.ts'

type Kind = 'file' | 'directory' | 'other'

/** A tar of one path of the container, running or not. `base` is the entry's name in it. */
export async function copyFromContainer(
  engine: Engine,
  ref: string,
  path: string,
): Promise<{ base: string; kind: Kind; tar: Readable }> {
  const container = await findContainer(engine, ref)
  const root = rootOf(engine, container, 'read')
  try {
    const clean = cleanPath(path)
    const found = statInside(root, clean)
    if (!found)
      throw new Fault('NOT_FOUND', `there is no ${path} in container ${container.record.name}`)
    const base = posix.basename(clean) || '.'
    const packed = packTree({
      rootFd: root.number,
      path: textName(clean),
      base: textName(base),
      crossMounts: true,
    })
    emit(engine, about(container.record, 'copy', { path }))
    return {
      base,
      kind: found.kind,
      tar: Readable.from(closing(packed, root), { objectMode: false }),
    }
  } catch (error) {
    root.close()
    throw error
  }
}

/** The root's fd lives as long as its archive is read. */
async function* closing(chunks: AsyncIterable<Buffer>, root: Fd): AsyncGenerator<Buffer> {
  try {
    yield* chunks
  } finally {
    root.close()
  }
}

/** Extracts a tar below a directory of the container; what exists and what is made is resolved inside its root. */
export async function copyToContainer(
  engine: Engine,
  ref: string,
  path: string,
  tar: Readable,
  options: { archive: boolean },
): Promise<void> {
  const container = await findContainer(engine, ref)
  const { record } = container
  // Two copies, or a copy and a start, must not mount the same upper directory at once.
  using _lock = await lockContainer(engine, record.id)
  await renewWork(engine.at.work(record.id))
  using root = rootOf(engine, container, 'write')
  const target = statInside(root, cleanPath(path))
  if (target?.kind !== 'directory') {
    throw new Fault(
      target ? 'FAILED_PRECONDITION' : 'NOT_FOUND',
      `${path} is no directory of container ${record.name}`,
    )
  }
  const spec = readConfig(engine, record.id)
  const uid = spec.linux?.uidMappings?.[0]?.hostID ?? 0
  const gid = spec.linux?.gidMappings?.[0]?.hostID ?? 0
  if (options.archive && uid !== 0) {
    throw new Fault(
      'UNIMPLEMENTED',
      `cp -a into container ${record.name} is not supported: it has a user namespace`,
    )
  }
  await extractInto({
    rootFd: root.number,
    path: textName(cleanPath(path)),
    source: tar,
    // As docker does: what comes in belongs to the container's root, but with -a to whom the archive says.
    owner: options.archive ? undefined : { uid, gid },
    crossMounts: true,
  })
  emit(engine, about(record, 'copy', { path }))
}

/** What is at a path of the container, a link not followed at the end; undefined for nothing. */
export async function statInContainer(
  engine: Engine,
  ref: string,
  path: string,
): Promise<{ kind: Kind; size: number; mode: number; mtimeNs: string } | undefined> {
  const container = await findContainer(engine, ref)
  using root = rootOf(engine, container, 'read')
  return statInside(root, cleanPath(path), !path.endsWith('/'))
}

function statInside(root: Fd, path: string, noFollow = false) {
  try {
    using file = openInside(root.number, path, O_PATH | (noFollow ? O_NOFOLLOW : 0))
    const { mode, size, mtimeNs } = binding.statx(file.number, '', AT_EMPTY_PATH)
    const type = mode & S_IFMT
    const kind: Kind = type === S_IFREG ? 'file' : type === S_IFDIR ? 'directory' : 'other'
    return { kind, size: Number(size), mode: mode & 0o7777, mtimeNs: String(mtimeNs) }
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return
    if (isErrno(error, 'ELOOP'))
      throw new Fault('FAILED_PRECONDITION', `${path} is a link that leads nowhere`, {
        cause: error,
      })
    throw error
  }
}

/** Paths of the container are absolute, given so or not; `..` above the root stays there. */
function cleanPath(path: string): string {
  if (path.includes('\0')) throw new Fault('INVALID_ARGUMENT', 'the path holds a NUL byte')
  return posix.normalize(`/${path}`).replace(/(.)\/$/, '$1')
}

/**
 * The container's root as a directory fd: of a running one with all its mounts, of another a detached mount of its layers. All below it is to be
 * resolved inside (openat2): a running container changes it at any moment (CVE-2018-15664).
 */
export function rootOf(engine: Engine, container: Container, purpose: 'read' | 'write'): Fd {
  const { record, status } = container
  if (status.state === 'running' || status.state === 'paused') return openRoot(engine, container)
  const lower = record.lower.map((path) => `${engine.root}/${path}`)
  const upper = engine.at.upper(record.id)
  if (purpose === 'read') return overlayMount({ lower: [upper, ...lower] })
  const isMapped = readConfig(engine, record.id).linux?.namespaces?.some(
    ({ type }) => type === 'user',
  )
  if (isMapped) {
    // What is copied up from a layer would get the layer's owner instead of the mapped one.
    throw new Fault(
      'UNIMPLEMENTED',
      `cp into the stopped container ${record.name} is not supported: it has a user namespace; start it first`,
    )
  }
  const work = engine.at.work(record.id)
  return overlayMount({ lower, upper, work, options: WHOLE_CHANGES })
}
