import { Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { AT_SYMLINK_NOFOLLOW, O_DIRECTORY, O_RDONLY, S_IFMT, S_IFREG } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { type ByteName, byteName, cleanPath, textName } from './bytes.ts'
import { LAYER_LIMITS } from './limits.ts'
import {
  type Attributes,
  attributesOf,
  isDirectory,
  isOpaque,
  Layers,
  RESOLVE_PLAIN,
} from './lower.ts'
import type { PackOptions } from './pack.ts'
import { kernelName, Tree } from './tree.ts'

/** What berth makes where it mounts on nothing (native/init/path.cc). */
const MADE_DIRECTORY = 0o755
const MADE_FILE = 0o644

/**
 * Paths of an upper directory that are there only because berth made places to mount on: empty files and directories with the attributes it gives them, and
 * the directories above that nothing else has changed. Whatever a container has changed is not among them.
 */
export function madePlaces(
  options: {
    readonly upper: string
    readonly lower: readonly string[]
    readonly mounted: readonly string[]
    readonly alter: NonNullable<PackOptions['alter']>
  },
  lower: Layers,
): Set<ByteName> {
  const { upper, alter } = options
  const made = new Set<ByteName>()
  using layer = new Layers([upper])
  const places = realPlaces([upper, ...options.lower], options.mounted)
  for (const path of deepestFirst(places)) {
    const parts = path.split('/')
    const { status } = layer.look(0, parts)
    if (!status) continue
    using node = layer.open(0, parts)
    const is = alter(path, attributesOf(status, node.number))
    const below = lower.attributes(parts)
    if (isDirectory(status)) {
      using dir = openDirectory(node)
      const isEmpty = binding.readdir(dir.number).every(({ name }) => {
        return made.has(`${path}/${byteName(name)}`)
      })
      if (!isEmpty || isOpaque(dir.number)) continue
      if (below ? below.isDirectory && sameAttributes(is, below) : isPlain(is, MADE_DIRECTORY))
        made.add(path)
      continue
    }
    const isFile = (status.mode & S_IFMT) === S_IFREG && status.size === 0n && status.nlink === 1
    if (isFile && !below && places.has(path) && isPlain(is, MADE_FILE)) made.add(path)
  }
  return made
}

function openDirectory(node: Fd): Fd {
  return new Fd(binding.openat2(node.number, '.', O_RDONLY | O_DIRECTORY, 0, RESOLVE_PLAIN))
}

/** Where the mounts really are: links of the container's are followed as at its start. */
function realPlaces(layers: readonly string[], mounted: readonly string[]): Set<ByteName> {
  using view = overlayMount({ lower: layers })
  const tree = new Tree(view.number, {
    crossMounts: false,
    depthMax: LAYER_LIMITS.depth,
    make: () => undefined,
    whiteoutsAreMissing: false,
  })
  try {
    const places = new Set<ByteName>()
    for (const path of mounted) {
      const { parts } = cleanPath(textName(path))
      const name = parts.at(-1)
      const parent = name === undefined ? undefined : directoryIfAny(tree, parts.slice(0, -1))
      if (name === undefined || parent === undefined) continue
      places.add(Tree.join(parent, name))
      // A link as the last part leads to where it really is.
      if (isThere(parent.fd, name)) {
        const end = directoryIfAny(tree, parts)
        if (end && end.path !== '') places.add(end.path)
      }
      tree.trim()
    }
    return places
  } finally {
    tree.close()
  }
}

/** Undefined too where the container has put something else in the way: then nothing of ours is there. */
function directoryIfAny(tree: Tree, parts: readonly ByteName[]) {
  try {
    return tree.directory(parts, { create: false })
  } catch (error) {
    if (error instanceof Fault && error.code === 'INVALID_ARGUMENT') return undefined
    throw error
  }
}

function isThere(dirFd: number, name: ByteName): boolean {
  try {
    binding.statx(dirFd, kernelName(name), AT_SYMLINK_NOFOLLOW)
    return true
  } catch {
    return false
  }
}

/** The places and all directories above them, what is in a directory before it. */
function deepestFirst(places: ReadonlySet<ByteName>): ByteName[] {
  const all = new Set<ByteName>()
  for (const place of places) {
    const parts = place.split('/')
    for (let i = 1; i <= parts.length; i++) all.add(parts.slice(0, i).join('/'))
  }
  return [...all].sort((a, b) => b.split('/').length - a.split('/').length)
}

function isPlain(is: Attributes, mode: number): boolean {
  return is.mode === mode && is.uid === 0 && is.gid === 0 && is.xattrs.size === 0
}

/** Whether two nodes have the same mode, owner and extended attributes. */
export function sameAttributes(a: Attributes, b: Attributes): boolean {
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.xattrs.size === b.xattrs.size &&
    [...a.xattrs].every(([name, value]) => b.xattrs.get(name)?.equals(value) === true)
  )
}
