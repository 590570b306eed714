import { openSync, readSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import {
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_RDONLY,
  S_IFMT,
  S_IFREG,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { decompress } from '../layer/compress.ts'
import { LAYER_LIMITS } from '../layer/limits.ts'
import { RESOLVE_PLAIN } from '../layer/lower.ts'
import { extractInto } from '../layer/pack.ts'
import type { LayerStore } from '../layer/store.ts'
import { BLOCK, decodeHeader, isZeroBlock } from '../layer/tar-header.ts'
import { kernelName } from '../layer/tree.ts'
import { NOTHING_IGNORED } from './ignore.ts'
import type { Found, Source } from './source.ts'

const CHUNK_BYTES = 1024 * 1024

/** Whether ADD unpacks it: a tar archive, plain, gzip or zstd, by its content. bzip2 and xz are UNIMPLEMENTED by name. */
export async function isArchive(found: Found): Promise<boolean> {
  if ((found.status.mode & S_IFMT) !== S_IFREG) return false
  using file = openFile(found)
  let start = Buffer.alloc(0)
  try {
    for await (const chunk of decompress(chunksOf(file.number, BLOCK * 8), LAYER_LIMITS)) {
      start = Buffer.concat([start, chunk])
      if (start.length >= BLOCK) break
    }
    if (start.length < BLOCK || isZeroBlock(start)) return false
    decodeHeader(start.subarray(0, BLOCK))
    return true
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return false
    throw error
  }
}

function openFile({ parentFd, base }: Found): Fd {
  const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
  return new Fd(binding.openat2(parentFd, kernelName(base), flags, 0, RESOLVE_PLAIN))
}

async function* chunksOf(fd: number, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; ; ) {
    const chunk = Buffer.allocUnsafe(size)
    const count = readSync(fd, chunk, 0, size, at)
    if (count === 0) return
    at += count
    yield chunk.subarray(0, count)
  }
}

/** An archive unpacked to be copied from; its directory goes when it is disposed, or after a kill with the next collection. */
export async function unpackedArchive(
  store: LayerStore,
  found: Found,
): Promise<{ source: Source; [Symbol.asyncDispose]: () => Promise<void> }> {
  using file = openFile(found)
  const work = store.begin()
  let root: Fd | undefined
  try {
    root = new Fd(openSync(work.tree, O_RDONLY | O_DIRECTORY))
    await extractInto({
      rootFd: root.number,
      path: '',
      source: chunksOf(file.number, CHUNK_BYTES),
    })
  } catch (error) {
    root?.close()
    await work.discard()
    throw error
  }
  const open = root
  return {
    source: {
      rootFd: open.number,
      what: 'the archive',
      ignores: NOTHING_IGNORED,
      keepsOwners: true,
    },
    [Symbol.asyncDispose]: async () => {
      open.close()
      await work.discard()
    },
  }
}
