/** The thread that unpacks layers, one after the other. */
import { closeSync, openSync, read as readCallback } from 'node:fs'
import { promisify } from 'node:util'
import { parentPort } from 'node:worker_threads'
import { describe, Fault } from '../base/fault.ts'
import type { FromWorker, ToWorker, WorkerJob } from './unpack.ts'
import { type UnpackResult, unpackJob } from './unpack-job.ts'

const READ_BYTES = 1024 * 1024

const port = parentPort
if (!port) throw new Error('unpack-worker.js runs as a worker thread')
const post = (message: FromWorker, transfer: ArrayBuffer[] = []): void =>
  port.postMessage(message, transfer)

let isAborted = false
const queue: (Uint8Array<ArrayBuffer> | undefined)[] = []
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
    // Who asks for the next one is done with it.
    const memory = chunk.buffer
    post({ kind: 'spare', memory }, [memory])
  }
}

/** Not the synchronous read: in between, an abort is heard. Not a stream of Node's, which costs more than a small layer. */
const read = promisify(readCallback)

/** A piece is the consumer's until it asks for the next. */
async function* readAll(fd: number, pieceBytes: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(pieceBytes)
  for (;;) {
    const { bytesRead } = await read(fd, buffer, 0, buffer.length, null)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
  }
}

function taken(bytes: number): void {
  if (isAborted) throw new Fault('UNAVAILABLE', 'unpacking was given up')
  if (bytes > 0) post({ kind: 'taken', bytes })
}

async function unpack(job: WorkerJob): Promise<UnpackResult> {
  if (job.path === undefined) return unpackJob(job, received(), taken)
  const file = openSync(job.path, 'r')
  try {
    const pieceBytes = job.bytes === 0 ? READ_BYTES : Math.min(READ_BYTES, job.bytes)
    return await unpackJob(job, readAll(file, pieceBytes), taken)
  } finally {
    closeSync(file)
  }
}

/** After a fault it is not used again: what the source still sends would be taken for the next layer's. */
async function run(job: WorkerJob): Promise<void> {
  try {
    post({ kind: 'done', result: await unpack(job) })
  } catch (error) {
    const code = error instanceof Fault ? error.code : 'INTERNAL'
    post({ kind: 'fault', code, message: describe(error) })
  }
}
