import { Fault } from '../base/fault.ts'
import { S_IFCHR, S_IFMT } from '../kernel/constants.ts'
import type { ByteName } from './bytes.ts'
import { packRows } from './xattr.ts'

/** How archives say that something of a lower layer is gone (image-spec, "Whiteouts"; from AUFS). */
export const WHITEOUT_PREFIX = '.wh.'
const AUFS_PREFIX = '.wh..wh.'
export const OPAQUE_FILE = '.wh..wh..opq'

/** How overlayfs says that a directory hides what lower layers have in it. */
export const OPAQUE = 'trusted.overlay.opaque'
export const OPAQUE_VALUE = Buffer.from('y')
/** How it says that a directory, or a file's data, is to be looked for elsewhere in the lower layers. */
export const REDIRECT = 'trusted.overlay.redirect'
export const METACOPY = 'trusted.overlay.metacopy'
export const OPAQUE_ROW = packRows([[OPAQUE, OPAQUE_VALUE]])

/** Whether overlayfs takes this node for "nothing here": the character device 0:0. */
export function isWhiteout(node: { mode: number; rdevMajor: number; rdevMinor: number }): boolean {
  return (node.mode & S_IFMT) === S_IFCHR && node.rdevMajor === 0 && node.rdevMinor === 0
}

/**
 * What an entry of a layer's archive hides: a name in its directory, `OPAQUE` for all that lower layers have there, 'ignored' for AUFS's
 * own bookkeeping (`.wh..wh.plnk` …), undefined for an ordinary entry.
 */
export function whiteoutOf(
  parts: readonly ByteName[],
  escapes: boolean,
): ByteName | typeof OPAQUE | 'ignored' | undefined {
  const base = parts.at(-1) ?? ''
  for (const [i, part] of parts.entries()) {
    if (part.startsWith(AUFS_PREFIX) && part !== OPAQUE_FILE) return 'ignored'
    if (part.startsWith(WHITEOUT_PREFIX) && i < parts.length - 1) {
      throw new Fault('INVALID_ARGUMENT', 'it lies below a whiteout')
    }
  }
  if (!base.startsWith(WHITEOUT_PREFIX)) return undefined
  if (escapes) throw new Fault('INVALID_ARGUMENT', 'a whiteout leads above the root')
  if (base === OPAQUE_FILE) return OPAQUE
  const hidden = base.slice(WHITEOUT_PREFIX.length)
  if (hidden === '' || hidden === '.' || hidden === '..') {
    throw new Fault('INVALID_ARGUMENT', 'a whiteout that names no file')
  }
  return hidden
}
