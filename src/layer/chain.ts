import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { isDirectory, Layers, RESOLVE_PLAIN, readXattrs } from './lower.ts'
import { digestHex, type LayerInfo, type LayerStore } from './store.ts'
import { kernelName } from './tree.ts'

/** The layers of an image as an overlay takes them. */
export interface Chain {
  /** image-spec, "Layer ChainID". */
  readonly chainId: string
  /** Directories, topmost first; at least one. For `RootPlan.lower`. */
  readonly lower: readonly string[]
}

/** Of diff ids bottom first; of none: the digest of nothing. */
export function chainId(diffIds: readonly string[]): string {
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
  let id: string | undefined
  for (const diffId of diffIds) {
    digestHex(diffId)
    id = id === undefined ? diffId : `sha256:${sha256(`${id} ${diffId}`)}`
  }
  return id ?? `sha256:${sha256('')}`
}

/**
 * The overlay of an image's layers (diff ids, bottom first). A layer that is not in the store is NOT_FOUND.
 *
 * A layer is unpacked alone, so a directory that only its content implies is there as root's 0755 and would hide the attributes that a lower
 * layer gives the same directory. Where that happens, a layer of such directories alone is made once for the chain and put on top.
 */
export async function prepareChain(store: LayerStore, diffIds: readonly string[]): Promise<Chain> {
  const id = chainId(diffIds)
  const infos = visible(diffIds.map((diffId) => find(store, diffId)))
  const lower = infos.map((info) => store.treePath(info.diffId))
  const hex = digestHex(id)
  const fixup = join(store.directory, 'fixup', hex)
  const fixupTree = join(fixup, 'tree')
  if (existsSync(fixupTree)) return { chainId: id, lower: [fixupTree, ...lower] }
  using layers = new Layers(lower)
  const fixes = neededFixes(layers, infos)
  // An overlay needs a directory even where the image has no layer.
  if (fixes.size === 0 && lower.length > 0) return { chainId: id, lower }
  using _lock = await store.lockName(`fixup-${hex}`)
  if (!existsSync(fixupTree)) await makeFixup(store, layers, fixes, fixup)
  return { chainId: id, lower: [fixupTree, ...lower] }
}

function find(store: LayerStore, diffId: string): LayerInfo {
  const info = store.get(diffId)
  if (!info) throw new Fault('NOT_FOUND', `layer ${diffId} is not unpacked`)
  return info
}

/** Topmost first, without what can't be seen. */
function visible(bottomFirst: readonly LayerInfo[]): LayerInfo[] {
  const infos: LayerInfo[] = []
  const seen = new Set<string>()
  for (const info of bottomFirst.toReversed()) {
    // The same layer again lower down adds nothing to the upper one, and overlayfs refuses a directory given twice (ELOOP).
    if (seen.has(info.diffId)) continue
    seen.add(info.diffId)
    infos.push(info)
    if (info.rootOpaque) break
  }
  return infos
}

/** Paths of directories (`/`-joined) and the layer whose attributes the merged directory should have. */
type Fixes = Map<string, number>

function neededFixes(layers: Layers, infos: readonly LayerInfo[]): Fixes {
  const implicit = infos.map((info) => new Set(info.implicit))
  const fixes: Fixes = new Map()
  // The lowest layer has nothing below it that it could hide.
  const paths = new Set(infos.slice(0, -1).flatMap((info) => info.implicit))
  for (const path of paths) {
    const { top, best } = attributesOf(layers, implicit, path)
    if (top === undefined || best === undefined || best === top) continue
    if (path === '' && hasDefaults(layers, best)) continue
    fixes.set(path, best)
  }
  for (const path of [...fixes.keys()]) {
    for (const above of ancestors(path)) {
      if (fixes.has(above)) continue
      const { top, best } = attributesOf(layers, implicit, above)
      const from = best ?? top
      if (from !== undefined) fixes.set(above, from)
    }
  }
  return fixes
}

/** The topmost layer that has the directory, and the topmost that has an entry for it. */
function attributesOf(
  layers: Layers,
  implicit: readonly ReadonlySet<string>[],
  path: string,
): { top?: number; best?: number } {
  const parts = path === '' ? [] : path.split('/')
  let top: number | undefined
  for (let i = 0; i < layers.count; i++) {
    const { status, hidesBelow } = layers.look(i, parts)
    if (isDirectory(status)) {
      top ??= i
      if (!implicit[i]?.has(path)) return { top, best: i }
    } else if (status) break
    if (hidesBelow) break
  }
  return top === undefined ? {} : { top }
}

/** As the store makes a root of its own accord; its time does not matter, an upper directory has its own. */
function hasDefaults(layers: Layers, index: number): boolean {
  const { status } = layers.look(index, [])
  const isPlain = status && (status.mode & 0o7777) === 0o755 && status.uid === 0 && status.gid === 0
  if (isPlain !== true) return false
  using root = layers.open(index, [])
  return readXattrs(root.number).size === 0
}

function ancestors(path: string): string[] {
  if (path === '') return []
  const parts = path.split('/')
  return parts.map((_, i) => parts.slice(0, i).join('/'))
}

async function makeFixup(
  store: LayerStore,
  layers: Layers,
  fixes: Fixes,
  target: string,
): Promise<void> {
  const work = store.begin()
  try {
    using root = new Fd(openSync(work.tree, O_RDONLY | O_DIRECTORY))
    // Parents sort before what is in them.
    const paths = [...fixes.keys()].sort()
    for (const path of paths) {
      if (path !== '') binding.mkdirat(root.number, kernelName(path), 0o700)
    }
    // All are made before the first gets its time, which the next one made in it would change.
    for (const path of paths) {
      const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
      const name = path === '' ? '.' : kernelName(path)
      using dir = new Fd(binding.openat2(root.number, name, flags, 0, RESOLVE_PLAIN))
      const parts = path === '' ? [] : path.split('/')
      layers.copyAttributes(fixes.get(path) ?? 0, parts, dir.number)
    }
    await store.publishAt(work, { version: 1, paths: fixes.size }, target)
  } finally {
    await work.discard()
  }
}

/**
 * Gives a new upper directory the attributes of the chain's root: the root directory of an overlay is its upper's, and would otherwise be
 * whatever mkdir made.
 */
export function prepareUpper(chain: Pick<Chain, 'lower'>, upper: string): void {
  using layers = new Layers(chain.lower.slice(0, 1))
  const fd = openSync(upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  try {
    layers.copyAttributes(0, [], fd)
  } finally {
    closeSync(fd)
  }
}
