import { openSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { AT_SYMLINK_NOFOLLOW, O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, byteName } from './bytes.ts'
import { LAYER_LIMITS } from './limits.ts'
import { isDirectory, isOpaque, Layers, RESOLVE_PLAIN } from './lower.ts'
import { madePlaces } from './made-places.ts'
import type { UpperOptions } from './pack-layer.ts'
import { kernelName } from './tree.ts'
import { isWhiteout } from './whiteout.ts'

/** Added, changed or deleted, as `docker diff` shows it. The path is absolute in the container. */
export interface Change {
  readonly kind: 'A' | 'C' | 'D'
  readonly path: ByteName
}

/** More than this many are RESOURCE_EXHAUSTED: the list is for a person or one answer. */
const CHANGES_MAX = 1_000_000

/** What an overlay's upper directory changes in its lower ones, sorted by path. */
export function layerChanges(options: UpperOptions): Change[] {
  const { lower, upper, alter = (_path, is) => is } = options
  using layers = new Layers(lower)
  const made = madePlaces({ ...options, alter }, layers)
  using root = new Fd(openSync(upper, O_RDONLY | O_DIRECTORY))
  const changes: Change[] = []
  const add = (kind: Change['kind'], parts: readonly ByteName[]): void => {
    if (changes.length >= CHANGES_MAX) {
      throw new Fault('RESOURCE_EXHAUSTED', `there are more than ${CHANGES_MAX} changes`)
    }
    changes.push({ kind, path: `/${parts.join('/')}` })
  }
  walk(root.number, [], { layers, add, made })
  return changes.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
}

interface Walk {
  readonly layers: Layers
  readonly add: (kind: Change['kind'], parts: readonly ByteName[]) => void
  readonly made: ReadonlySet<ByteName>
}

function walk(dirFd: number, parts: readonly ByteName[], context: Walk): void {
  if (parts.length > LAYER_LIMITS.depth) {
    throw new Fault('RESOURCE_EXHAUSTED', 'the tree is too deep to compare')
  }
  const names = new Set<ByteName>()
  for (const { name } of binding.readdir(dirFd)) {
    const base = byteName(name)
    names.add(base)
    const path = [...parts, base]
    if (context.made.has(path.join('/'))) continue
    const status = binding.statx(dirFd, kernelName(base), AT_SYMLINK_NOFOLLOW)
    const below = context.layers.merged(path)
    if (isWhiteout(status)) {
      if (below) context.add('D', path)
      continue
    }
    context.add(below ? 'C' : 'A', path)
    if (!isDirectory(status)) continue
    const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
    using child = new Fd(binding.openat2(dirFd, kernelName(base), flags, 0, RESOLVE_PLAIN))
    walk(child.number, path, context)
  }
  // An opaque directory deletes without a whiteout: a directory removed and made again.
  if (!isOpaque(dirFd)) return
  for (const name of context.layers.names(parts)) {
    if (!names.has(name)) context.add('D', [...parts, name])
  }
}
