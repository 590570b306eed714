import { createHash } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import type { ByteName } from './bytes.ts'
import type { Attributes } from './lower.ts'
import { packTree } from './pack.ts'

const NOTHING: Attributes = { mode: 0, uid: 0, gid: 0, mtimeNs: 0n, xattrs: new Map() }

/**
 * sha256 over all that makes a layer's tree: names, kinds, owners, modes, times, attributes, links, devices, whiteouts and contents, in one
 * order. Two unpackings of one archive have the same; a changed byte, a missing and a further file each change it. `implicit` are
 * the directories without an entry in the archive: what their owner, mode and time are is no part of the layer.
 *
 * It is the hash of the tree packed anew. That is not the layer's archive, whose order and dialect are its maker's: the diff id does not
 * come of it.
 */
export async function fingerprintTree(
  tree: string,
  implicit: readonly ByteName[],
  signal?: AbortSignal,
): Promise<string> {
  const untold = new Set(implicit)
  const alter = (path: ByteName, is: Attributes) => (untold.has(path) ? NOTHING : is)
  const hash = createHash('sha256')
  const rootFd = openSync(tree, 'r')
  try {
    const options = { rootFd, base: '', whiteouts: true, holes: false, alter }
    for await (const chunk of packTree(options)) {
      signal?.throwIfAborted()
      hash.update(chunk)
    }
  } finally {
    closeSync(rootFd)
  }
  return `sha256:${hash.digest('hex')}`
}
