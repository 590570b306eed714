import { Fault, isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_SYMLINK_NOFOLLOW,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { type ByteName, byteName, textName } from '../layer/bytes.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { type FileStatus, isDirectory, RESOLVE_PLAIN } from '../layer/lower.ts'
import { kernelName, Tree } from '../layer/tree.ts'
import { globPattern, isGlob } from './glob.ts'
import type { Ignore } from './ignore.ts'

/** A tree that COPY and ADD read: the context, a stage or an image. Nobody vouches for what is in it: all of it is found by fd below its root. */
export interface Source {
  readonly rootFd: number
  /** For errors: `the build context`. */
  readonly what: string
  /** Of paths below the root. */
  readonly ignores: Ignore
  /** Whether owners are kept: those of the context mean nothing in an image. */
  readonly keepsOwners: boolean
}

/** One thing to copy, links on the way and at its end followed inside the root. */
export interface Found {
  /** Its name as it was asked for. */
  readonly name: ByteName
  /** Where it really is, and the open directory of it; good until the tree is closed. */
  readonly parentFd: number
  readonly base: ByteName
  readonly path: readonly ByteName[]
  readonly status: FileStatus
}

/** As Linux itself (path_resolution(7)). */
const LINKS_MAX = 40

/** Opens the tree of a source; closed by the caller. */
export function treeOf(rootFd: number): Tree {
  return new Tree(rootFd, {
    // A context may have mounts in it, a view of layers has none.
    crossMounts: true,
    depthMax: LAYER_LIMITS.depth,
    make: () => undefined,
    whiteoutsAreMissing: false,
  })
}

/** What a source argument names: one thing, or all that match its wildcards, sorted. NOT_FOUND where there is none. */
export function findSources(source: Source, tree: Tree, argument: string): Found[] {
  // As docker does: what leads above the root is held at it.
  const parts = cleanParts(argument)
  if (!isGlob(argument)) {
    const found = lookUp(tree, parts.map(textName))
    if (!found || isLeftOut(source, found.path, found.status)) throw missing(source, argument)
    return [found]
  }
  const all = matching(tree, parts)
    .map((path) => lookUp(tree, path))
    .filter((found) => found !== undefined)
    .filter(({ path, status }) => !isLeftOut(source, path, status))
  if (all.length === 0) throw missing(source, argument)
  return all
}

function cleanParts(path: string): string[] {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return parts
}

/** An ignored directory with exceptions may have something in it. */
function isLeftOut(source: Source, path: readonly ByteName[], status: FileStatus): boolean {
  if (path.length === 0 || !source.ignores(readable(path.join('/')))) return false
  return !(isDirectory(status) && source.ignores.hasExceptions)
}

/** A name as the patterns of people see it. */
export function readable(name: ByteName): string {
  return Buffer.from(name, 'latin1').toString('utf8')
}

function missing(source: Source, argument: string): Fault {
  return new Fault('NOT_FOUND', `there is no ${argument} in ${source.what}`)
}

function matching(tree: Tree, parts: readonly string[]): ByteName[][] {
  let paths: ByteName[][] = [[]]
  for (const part of parts) {
    if (!isGlob(part)) {
      paths = paths.map((path) => [...path, textName(part)])
      continue
    }
    const pattern = globPattern(part, { doubleStar: false })
    paths = paths.flatMap((path) =>
      namesIn(tree, path)
        .filter((name) => pattern.test(readable(name)))
        .map((name) => [...path, name]),
    )
  }
  return paths
}

function namesIn(tree: Tree, path: readonly ByteName[]): ByteName[] {
  const dir = directoryIfAny(tree, path)
  if (!dir) return []
  using open = openDirectory(dir.fd, '.')
  return binding
    .readdir(open.number)
    .map(({ name }) => byteName(name))
    .sort()
}

export function openDirectory(dirFd: number, name: ByteName): Fd {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
  return new Fd(binding.openat2(dirFd, kernelName(name), flags, 0, RESOLVE_PLAIN))
}

/** Undefined for nothing there, and where something on the way is no directory. */
export function directoryIfAny(tree: Tree, parts: readonly ByteName[]) {
  try {
    return tree.directory(parts, { create: false })
  } catch (error) {
    if (error instanceof Fault && error.code === 'INVALID_ARGUMENT') return undefined
    throw error
  }
}

export function statusIfAny(dirFd: number, name: ByteName): FileStatus | undefined {
  try {
    return binding.statx(dirFd, kernelName(name), AT_SYMLINK_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENAMETOOLONG')) return undefined
    throw error
  }
}

/** What is at a path, a link at its end followed inside the root, too. */
function lookUp(tree: Tree, asked: readonly ByteName[]): Found | undefined {
  let parts: readonly ByteName[] = asked
  for (let links = 0; links <= LINKS_MAX; links++) {
    const base = parts.at(-1)
    const parent = directoryIfAny(tree, parts.slice(0, -1))
    if (!parent) return undefined
    const above = parent.path === '' ? [] : parent.path.split('/')
    const name = asked.at(-1) ?? ''
    if (base === undefined) {
      const status = binding.statx(parent.fd, '.', AT_SYMLINK_NOFOLLOW)
      return { name, parentFd: parent.fd, base: '.', path: [], status }
    }
    const status = statusIfAny(parent.fd, base)
    if (!status) return undefined
    if ((status.mode & S_IFMT) !== S_IFLNK) {
      return { name, parentFd: parent.fd, base, path: [...above, base], status }
    }
    const target = byteName(binding.readlinkat(parent.fd, kernelName(base)))
    parts = joined(target.startsWith('/') ? [] : above, target)
  }
  throw new Fault('INVALID_ARGUMENT', 'it is behind too many symbolic links')
}

/** Lexically: what `above` is has no links in it. */
function joined(above: readonly ByteName[], target: ByteName): ByteName[] {
  const parts = [...above]
  const rest = target.split('/')
  for (const [i, part] of rest.entries()) {
    // After a name that may be a link itself, `..` is left to the tree.
    if (
      part === '..' &&
      rest.slice(0, i).every((each) => each === '..' || each === '' || each === '.')
    )
      parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return parts
}

export const isDirectoryMode = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR
