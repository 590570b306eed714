import { createHash } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import type { ByteName } from './bytes.ts'
import { packTree } from './pack.ts'

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
  const bare = new Set(implicit.map((path) => (path === '' ? '.' : `./${path}`)))
  const hash = createHash('sha256')
  const rootFd = openSync(tree, 'r')
  try {
    for await (const chunk of packTree({ rootFd, format: 'layer', bare })) {
      signal?.throwIfAborted()
      hash.update(chunk)
    }
  } finally {
    closeSync(rootFd)
  }
  return `sha256:${hash.digest('hex')}`
}
