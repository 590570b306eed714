/** The thread that unpacks layers, one after the other: bytes → digest → decompression → diff id → tar → files. */
import { createHash, type Hash } from 'node:crypto'
import { closeSync, openSync, read as readCallback } from 'node:fs'
import { promisify } from 'node:util'
import { parentPort } from 'node:worker_threads'
import { describe, Fault } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { decompress } from './compress.ts'
import { PlainHash } from './plain-hash.ts'
import { TarReader } from './tar-reader.ts'
import { TreeWriter } from './tree-writer.ts'
import type { FromWorker, ToWorker, UnpackJob, UnpackResult } from './unpack.ts'

const READ_BYTES = 1024 * 1024
/** A smaller layer is done before a second thread would help. */
const AHEAD_BYTES_MIN = 1024 * 1024

const port = parentPort
if (!port) throw new Error('unpack-worker.js runs as a worker thread')
const post = (message: FromWorker): void => port.postMessage(message)

let isAborted = false
const queue: (Uint8Array | undefined)[] = []
let wake: (() => void) | undefined
port.on('message', (message: ToWorker) => {
  if (message.kind === 'job') {
    // What was sent to the last one after its end.
    isAborted = false
    queue.length = 0
    void run(message.job)
  } else if (message.kind === 'abort') isAborted = true
  else queue.push(message.kind === 'chunk' ? message.bytes : undefined)
  wake?.()
})

async function* received(): AsyncGenerator<Uint8Array> {
  for (;;) {
    while (queue.length === 0 && !isAborted) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    const chunk = queue.shift()
    if (chunk === undefined) return
    yield chunk
  }
}

/** Not the synchronous read: in between, an abort is heard. Not a stream of Node's, which costs more than a small layer. */
const read = promisify(readCallback)

async function* readAll(fd: number, bytes: number): AsyncGenerator<Uint8Array> {
  for (;;) {
    const buffer = Buffer.allocUnsafeSlow(bytes)
    const { bytesRead } = await read(fd, buffer, 0, buffer.length, null)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
  }
}

class Digest {
  readonly #hash: Hash | undefined
  bytes = 0

  /** Without `isWanted` it counts only. */
  constructor(isWanted: boolean) {
    if (isWanted) this.#hash = createHash('sha256')
  }

  async *through(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      if (isAborted) throw new Fault('UNAVAILABLE', 'unpacking was given up')
      this.update(chunk)
      post({ kind: 'taken', bytes: chunk.length })
      yield chunk
    }
    if (isAborted) throw new Fault('UNAVAILABLE', 'unpacking was given up')
  }

  update(chunk: Uint8Array): void {
    this.#hash?.update(chunk)
    this.bytes += chunk.length
  }

  text(): string {
    return this.#hash ? `sha256:${this.#hash.digest('hex')}` : ''
  }
}

async function unpack(job: UnpackJob): Promise<UnpackResult> {
  const treeFd = openSync(job.tree, 'r')
  const trashFd = openSync(job.directory, 'r')
  const file = job.path === undefined ? undefined : openSync(job.path, 'r')
  const writer = new TreeWriter(treeFd, { format: 'layer', limits: job.limits, trashFd })
  try {
    const reader = new TarReader(writer, job.limits)
    const compressed = new Digest(job.wantsDigest)
    const plain = new PlainHash()
    const pieceBytes = job.bytes === 0 ? READ_BYTES : Math.min(READ_BYTES, job.bytes)
    const source = compressed.through(file === undefined ? received() : readAll(file, pieceBytes))
    const ahead = job.bytes >= AHEAD_BYTES_MIN ? plain : undefined
    for await (const chunk of decompress(source, job.limits, ahead)) {
      plain.update(chunk)
      reader.push(chunk)
    }
    reader.finish()
    const summary = writer.finish()
    const usage = await binding.treeUsage(treeFd)
    return {
      ...summary,
      diffId: plain.digest(),
      digest: compressed.text(),
      compressedBytes: compressed.bytes,
      size: usage.bytes,
      inodes: usage.inodes,
    }
  } finally {
    // A thread's end closes no file.
    if (file !== undefined) closeSync(file)
    writer.close()
    closeSync(treeFd)
    closeSync(trashFd)
  }
}

/** After a fault it is not used again: what the source still sends would be taken for the next layer's. */
async function run(job: UnpackJob): Promise<void> {
  try {
    post({ kind: 'done', result: await unpack(job) })
  } catch (error) {
    const code = error instanceof Fault ? error.code : 'INTERNAL'
    post({ kind: 'fault', code, message: describe(error) })
  }
}
