/** One layer: bytes → digest → decompression → diff id → tar → files. */
import { createHash } from 'node:crypto'
import { openSync } from 'node:fs'
import { binding } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'
import { decompress } from './compress.ts'
import type { LayerLimits } from './limits.ts'
import { PlainHash } from './plain-hash.ts'
import { TarReader } from './tar-reader.ts'
import { type TreeSummary, TreeWriter } from './tree-writer.ts'

export interface UnpackJob {
  /** Of the layer's tree, and of the directory around it: there goes what is removed while unpacking. */
  readonly tree: string
  readonly directory: string
  readonly limits: LayerLimits
  /** Whether to decompress on a thread of its own, beside the one that writes. */
  readonly isAhead: boolean
  /** Whether to tell the digest of the compressed bytes: a second hash over all of them. */
  readonly wantsDigest: boolean
}

/** What was read and made. */
export interface UnpackResult extends TreeSummary {
  readonly diffId: string
  /** '' where the job does not want it. */
  readonly digest: string
  readonly compressedBytes: number
  readonly size: number
  readonly inodes: number
}

/** `onTaken` gets the size of each compressed chunk, and may throw to end the work. */
export async function unpackJob(
  job: UnpackJob,
  source: AsyncIterable<Uint8Array>,
  onTaken: (bytes: number) => void,
): Promise<UnpackResult> {
  // A thread's end closes no file.
  using tree = new Fd(openSync(job.tree, 'r'))
  using trash = new Fd(openSync(job.directory, 'r'))
  const { limits } = job
  const writer = new TreeWriter(tree.number, { format: 'layer', limits, trashFd: trash.number })
  try {
    const reader = new TarReader(writer, limits)
    const hash = job.wantsDigest ? createHash('sha256') : undefined
    let compressedBytes = 0
    const taken = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of source) {
        hash?.update(chunk)
        compressedBytes += chunk.length
        onTaken(chunk.length)
        yield chunk
      }
      onTaken(0)
    }
    const plain = new PlainHash()
    const ahead = job.isAhead ? plain : undefined
    for await (const chunk of decompress(taken(), limits, ahead)) {
      plain.update(chunk)
      reader.push(chunk)
    }
    reader.finish()
    const summary = writer.finish()
    const usage = await binding.treeUsage(tree.number)
    return {
      ...summary,
      diffId: plain.digest(),
      digest: hash ? `sha256:${hash.digest('hex')}` : '',
      compressedBytes,
      size: usage.bytes,
      inodes: usage.inodes,
    }
  } finally {
    writer.close()
  }
}
