import { closeSync, openSync, readSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { Fault, type FaultCode } from '../base/fault.ts'
import { LAYER_LIMITS, type LayerLimits } from './limits.ts'
import type { LayerInfo, LayerStore, LayerWork, ToDisk } from './store.ts'
import { type UnpackJob, type UnpackResult, unpackJob } from './unpack-job.ts'
import { WriteBehind } from './write-behind.ts'

export interface UnpackOptions {
  readonly store: LayerStore
  /** The compressed bytes as they arrive, or the path of a file that holds them. */
  readonly source: AsyncIterable<Uint8Array> | string
  /** Digest of the uncompressed archive, from the image's configuration. Without it (an import) any archive is good. */
  readonly diffId?: string | undefined
  /** Digest and size of the compressed bytes, from the manifest. */
  readonly digest?: string | undefined
  /** What the blob is called, where who feeds the source verifies it: it is not hashed a second time. */
  readonly blob?: string | undefined
  readonly size?: number | undefined
  readonly mediaType?: string | undefined
  readonly limits?: Partial<LayerLimits>
  /** Compressed bytes taken so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined
  readonly signal?: AbortSignal | undefined
  /** Of takeThread; without it one is waited for. */
  readonly thread?: Disposable | undefined
  /** All is unpacked and verified, and waits only for the disk. Not called where there was nothing to do. */
  readonly onUnpacked?: (() => void) | undefined
  /** In place of a syncfs of its own; not called for a store that is not `durable`, or where there was nothing to do. */
  readonly toDisk?: ToDisk | undefined
}

export interface WorkerJob extends UnpackJob {
  /** Compressed bytes, as far as they are known; else 0. */
  readonly bytes: number
  /** Undefined: chunks come as messages. */
  readonly path: string | undefined
}

export type ToWorker =
  | { readonly kind: 'job'; readonly job: WorkerJob }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'end' }
  | { readonly kind: 'abort' }

export type FromWorker =
  | { readonly kind: 'taken'; readonly bytes: number }
  /** A chunk's memory, to be filled again: left to the collectors, some 30 MB would pile up in each thread before these begin. */
  | { readonly kind: 'spare'; readonly memory: ArrayBuffer }
  | { readonly kind: 'done'; readonly result: UnpackResult }
  | { readonly kind: 'fault'; readonly code: FaultCode; readonly message: string }

const LAYER_TYPE =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?)$/

/**
 * Unpacks one layer into the store, once: where it is there already, or another process has just made it, that one's record is returned and
 * the source is not read to its end. Digest, size and diff id are verified before anything becomes visible: DATA_LOSS, and nothing
 * is left. Runs on a thread of its own.
 */
export async function unpackLayer(options: UnpackOptions): Promise<LayerInfo> {
  const { store, diffId, mediaType } = options
  if (mediaType !== undefined && !LAYER_TYPE.test(mediaType)) {
    throw new Fault('UNIMPLEMENTED', `cannot unpack a layer of media type ${mediaType}`)
  }
  if (diffId === undefined) return unpackUnknown(options)
  const known = store.get(diffId)
  if (known) return known
  using _lock = await store.lock(diffId, options.signal)
  const made = store.get(diffId)
  if (made) return made
  if (isSmallLayer(options.size) && typeof options.source === 'string') {
    const info = await unpackNew(options, unpackHere(options.source))
    if (info) return info
  }
  const info = await unpackNew(options, runWorker)
  if (info) return info
  throw new Fault('INTERNAL', 'a layer was neither unpacked nor refused')
}

/** Undefined where `unpack` gives up. */
async function unpackNew(
  options: UnpackOptions,
  unpack: (work: LayerWork, options: UnpackOptions) => Promise<UnpackResult | undefined>,
): Promise<LayerInfo | undefined> {
  const work = options.store.begin()
  try {
    const result = await unpack(work, options)
    if (result === undefined) return undefined
    const info = infoOf(result, options)
    await options.store.publish(work, info, options.toDisk)
    return info
  } finally {
    await work.discard()
  }
}

/** The diff id, and so the lock's name, is known only afterwards. */
async function unpackUnknown(options: UnpackOptions): Promise<LayerInfo> {
  const { store } = options
  const work = store.begin()
  try {
    const result = await runWorker(work, options)
    using _lock = await store.lock(result.diffId)
    const known = store.get(result.diffId)
    if (known) return known
    const info = infoOf(result, options)
    await store.publish(work, info, options.toDisk)
    return info
  } finally {
    await work.discard()
  }
}

function infoOf(result: UnpackResult, { blob = result.digest }: UnpackOptions): LayerInfo {
  const { diffId, size, inodes, implicit, rootOpaque } = result
  const created = new Date().toISOString()
  return { version: 1, diffId, blob, size, inodes, implicit, rootOpaque, created }
}

function check(result: UnpackResult, expected: UnpackOptions): void {
  const wrong = (what: string, is: string | number, want: string | number): Fault =>
    new Fault(
      'DATA_LOSS',
      `the layer is not what its image names: its ${what} is ${is}, not ${want}`,
    )
  if (expected.size !== undefined && result.compressedBytes !== expected.size) {
    throw wrong('size', result.compressedBytes, expected.size)
  }
  if (expected.digest !== undefined && result.digest !== expected.digest) {
    throw wrong('digest', result.digest, expected.digest)
  }
  if (expected.diffId !== undefined && result.diffId !== expected.diffId) {
    throw wrong('diff id', result.diffId, expected.diffId)
  }
}

const CORES = availableParallelism()
/** Layers unpacked at the same time by this process. */
const THREADS_MAX = Math.max(2, CORES)
let threads = 0
const waiting: (() => void)[] = []
let takenBytes = 0

/** The right to one of this process's unpacking threads, to be disposed; undefined where all are at work. */
export function takeThread(): Disposable | undefined {
  if (threads >= THREADS_MAX) return undefined
  threads++
  return heldThread()
}

/** Whether somebody waits for a thread to be free. */
export function isThreadWanted(): boolean {
  return waiting.length > 0
}

/** Compressed bytes that all threads of this process have taken so far: whether anything moves. */
export function unpackedBytes(): number {
  return takenBytes
}

/** May be disposed again. */
function heldThread(): Disposable {
  let isHeld = true
  return {
    [Symbol.dispose]: () => {
      if (!isHeld) return
      isHeld = false
      const next = waiting.shift()
      if (next) next()
      else threads--
    },
  }
}

async function waitForThread(signal: AbortSignal | undefined): Promise<Disposable> {
  signal?.throwIfAborted()
  const free = takeThread()
  if (free) return free
  await new Promise<void>((resolve, reject) => {
    const go = (): void => {
      signal?.removeEventListener('abort', leave)
      resolve()
    }
    const leave = (): void => {
      waiting.splice(waiting.indexOf(go), 1)
      reject(signal?.reason)
    }
    waiting.push(go)
    signal?.addEventListener('abort', leave, { once: true })
  })
  return heldThread()
}

/**
 * A layer of at most so many compressed bytes is unpacked by the caller's own thread, which has more work with handing it to another. What
 * holds more than it looks like is left to the other one after all: nobody's thread is kept longer than some milliseconds.
 */
const SMALL_BYTES = 64 * 1024
const SMALL_LIMITS = { entries: 64, totalBytes: 1024 * 1024 }

/** Whether a layer of this compressed size takes no thread, if it is in a file. */
export function isSmallLayer(bytes: number | undefined): boolean {
  return bytes !== undefined && bytes <= SMALL_BYTES
}

function unpackHere(path: string) {
  return async (work: LayerWork, options: UnpackOptions): Promise<UnpackResult | undefined> => {
    const { signal } = options
    const { limits, ...job } = jobOf(work, options)
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield startOf(path, SMALL_BYTES + 1)
    }
    let result: UnpackResult
    try {
      result = await unpackJob(
        { ...job, limits: least(limits, SMALL_LIMITS) },
        source(),
        (bytes) => {
          signal?.throwIfAborted()
          takenBytes += bytes
        },
      )
    } catch (error) {
      if (error instanceof Fault && error.code === 'RESOURCE_EXHAUSTED') return undefined
      throw error
    }
    options.onProgress?.(result.compressedBytes)
    check(result, options)
    options.onUnpacked?.()
    return result
  }
}

function startOf(path: string, bytesMax: number): Buffer {
  const fd = openSync(path, 'r')
  try {
    const buffer = Buffer.allocUnsafe(bytesMax)
    return buffer.subarray(0, readSync(fd, buffer))
  } finally {
    closeSync(fd)
  }
}

function least(limits: LayerLimits, others: Partial<LayerLimits>): LayerLimits {
  const least = { ...limits, ...others }
  for (const key of Object.keys(others) as (keyof LayerLimits)[]) {
    least[key] = Math.min(limits[key], least[key])
  }
  return least
}

/** A smaller layer is done before a second thread would help. */
const AHEAD_BYTES_MIN = 1024 * 1024

/** Where the layers that are being unpacked have two cores each: else a second thread takes what the others need. */
function mayGoAhead(bytes: number | undefined): boolean {
  return (bytes ?? 0) >= AHEAD_BYTES_MIN && threads * 2 <= CORES + 1
}

function jobOf(work: LayerWork, options: UnpackOptions): UnpackJob {
  return {
    tree: work.tree,
    directory: work.directory,
    limits: { ...LAYER_LIMITS, ...options.limits },
    isAhead: mayGoAhead(options.size),
    wantsDigest: options.digest !== undefined || options.blob === undefined,
  }
}

/** All is unpacked and verified when this returns. */
async function runWorker(work: LayerWork, options: UnpackOptions): Promise<UnpackResult> {
  const behind = options.store.durable ? new WriteBehind(work.directory) : undefined
  const onProgress = (bytes: number): void => {
    behind?.reached(bytes)
    options.onProgress?.(bytes)
  }
  const result = await withThread(work, { ...options, onProgress })
  check(result, options)
  options.onUnpacked?.()
  await behind?.end()
  return result
}

async function withThread(work: LayerWork, options: UnpackOptions): Promise<UnpackResult> {
  if (options.thread) return converse(work, options)
  using _thread = await waitForThread(options.signal)
  return await converse(work, options)
}

/** Compressed bytes on their way to the worker. */
const AHEAD_BYTES_MAX = 2 * 1024 * 1024

async function converse(work: LayerWork, options: UnpackOptions): Promise<UnpackResult> {
  const { source, signal, onProgress } = options
  signal?.throwIfAborted()
  const path = typeof source === 'string' ? source : undefined
  const job: WorkerJob = { ...jobOf(work, options), path, bytes: options.size ?? 0 }
  const worker = takeWorker()
  let isReusable = false
  const send = (message: ToWorker): void => worker.postMessage(message)
  const onAbort = (): void => send({ kind: 'abort' })
  const spare: ArrayBuffer[] = []
  let ahead = 0
  let taken = 0
  let wake: (() => void) | undefined
  let isOver = false
  const outcome = new Promise<UnpackResult>((resolve, reject) => {
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'done') {
        isReusable = true
        resolve(message.result)
      } else if (message.kind === 'fault') reject(new Fault(message.code, message.message))
      else if (message.kind === 'spare') spare.push(message.memory)
      else {
        ahead -= message.bytes
        taken += message.bytes
        takenBytes += message.bytes
        onProgress?.(taken)
        wake?.()
      }
    })
    worker.on('error', (error) =>
      reject(new Fault('INTERNAL', 'the unpacking thread failed', { cause: error })),
    )
    worker.on('exit', () => reject(new Fault('INTERNAL', 'the unpacking thread ended early')))
  }).finally(() => {
    isOver = true
    wake?.()
  })
  const feed = async (): Promise<void> => {
    if (typeof source === 'string') return
    for await (const chunk of source) {
      if (isOver) return
      // A copy, then given away: a socket's chunk is often a slice of a buffer that others use.
      const bytes = copied(chunk, spare.pop())
      ahead += bytes.length
      worker.postMessage({ kind: 'chunk', bytes } satisfies ToWorker, [bytes.buffer])
      while (ahead > AHEAD_BYTES_MAX && !isOver) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    send({ kind: 'end' })
  }
  signal?.addEventListener('abort', onAbort)
  send({ kind: 'job', job })
  // A failing source (a broken connection) ends the worker; its error is the one to report.
  let sourceError: { readonly error: unknown } | undefined
  const feeding = feed().catch((error: unknown) => {
    sourceError = { error }
    send({ kind: 'abort' })
  })
  try {
    const result = await outcome
    await feeding
    return result
  } catch (error) {
    if (sourceError) throw sourceError.error
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
    if (isReusable) keepWorker(worker)
    else await worker.terminate()
  }
}

/** In `memory`, where that is large enough. */
function copied(chunk: Uint8Array, memory: ArrayBuffer | undefined): Uint8Array<ArrayBuffer> {
  if (memory === undefined || memory.byteLength < chunk.length) return new Uint8Array(chunk)
  const bytes = new Uint8Array(memory, 0, chunk.length)
  bytes.set(chunk)
  return bytes
}

/** An idle worker waits so long for another layer: to start one takes longer than to unpack a small layer. */
const IDLE_MS = 2_000

const YOUNG_MIB = 12

const idle: { readonly worker: Worker; readonly drop: () => void }[] = []

function takeWorker(): Worker {
  const kept = idle.pop()
  if (kept) {
    kept.drop()
    kept.worker.ref()
    return kept.worker
  }
  return new Worker(new URL('./unpack-worker.js', import.meta.url), {
    // Node would warn of each fd that the addon has opened and Node closes.
    trackUnmanagedFds: false,
    // What it makes it soon forgets: V8 would take 48 MiB for that.
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
  })
}

/** By name: without a name, Node's own listeners go too, and nothing arrives any more. */
function forget(worker: Worker): void {
  for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event)
}

/** It holds up nobody's end. */
function keepWorker(worker: Worker): void {
  forget(worker)
  worker.unref()
  const drop = (): void => {
    clearTimeout(timer)
    forget(worker)
    const at = idle.indexOf(kept)
    if (at >= 0) idle.splice(at, 1)
  }
  const timer = setTimeout(() => {
    drop()
    void worker.terminate()
  }, IDLE_MS).unref()
  const kept = { worker, drop }
  worker.once('error', drop).once('exit', drop)
  idle.push(kept)
}
