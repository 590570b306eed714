import { createHash } from 'node:crypto'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { Slots } from '../base/slots.ts'
import { openImages, tellOfImage } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import type { Credentials } from '../image/auth.ts'
import { findCredentials } from '../image/credentials.ts'
import { digestIn } from '../image/digest.ts'
import type { Proofs } from '../image/drop-blobs.ts'
import { pullImage as fetchImage, type Pulled, type PullOptions } from '../image/pull.ts'
import { formatReference, parseReference, type Reference } from '../image/reference.ts'
import { holdContent, type ImageStore } from '../image/store.ts'
import { prepareChain } from '../layer/chain.ts'
import { unpackedBytes } from '../layer/unpack.ts'
import { type AuthConfig, requestCredentials } from './image-auth.ts'
import { collectIfWanted, collectSoon } from './image-collect.ts'
import {
  type Counters,
  type ImageMetrics,
  newCounters,
  PullProgress,
  type PullUnderWay,
} from './image-progress.ts'

/** A pull has no deadline (kubelet gives none); one in which nothing moves for so long is given up. */
export const PULL_STALL_MS = 5 * 60_000
/** Transfers of this process at once; others wait their turn. Each has up to three layers on their way. */
const TRANSFERS_AT_ONCE_MAX = 16
const turns = new Slots(TRANSFERS_AT_ONCE_MAX)
/** Looks at a transfer in the time after which it counts as stalled. */
const LOOKS_PER_STALL = 20

export interface PullRequest {
  /** The login that came with the request: tried before those that the node keeps. */
  readonly auth?: AuthConfig | undefined
  /** `linux/arm64/v8`; the host's own where it is missing. */
  readonly platform?: string | undefined
  /** Ends the caller's waiting at once; the transfer with the last caller. */
  readonly signal?: AbortSignal | undefined
  /** 0 never gives up. */
  readonly stallMs?: number | undefined
  /** False: the archives of unpacked layers go, this image's and those that are still here of others. */
  readonly keepBlobs?: boolean | undefined
  /** How the daemon is configured to reach registries. */
  readonly registries?: Pick<
    PullOptions,
    'certsDirectories' | 'insecureRegistries' | 'timeouts' | 'layersAtOnce' | 'policyFile'
  >
}

interface Transfer {
  readonly name: string
  readonly result: Promise<string>
  readonly controller: AbortController
  readonly progress: PullProgress
  readonly startMs: number
  callers: number
  isQueued: boolean
}

/** By everything that a result depends on. */
const transfers = new Map<string, Transfer>()
const countersOfRoots = new Map<string, Counters>()

function countersOf(engine: Engine): Counters {
  const known = countersOfRoots.get(engine.root)
  if (known) return known
  const made = newCounters()
  countersOfRoots.set(engine.root, made)
  return made
}

export function imageMetrics(engine: Engine): ImageMetrics {
  return { ...countersOf(engine) }
}

export function pullsUnderWay(engine: Engine): PullUnderWay[] {
  return [...transfers]
    .filter(([key]) => key.startsWith(`${engine.root}\n`))
    .map(([, { name, callers, isQueued, startMs, progress }]) => ({
      name,
      callers,
      isQueued,
      sinceMs: performance.now() - startMs,
      ...progress.sum(),
    }))
}

/** Whether a failed pull is the network's or the registry's: what kubelet calls RegistryUnavailable. */
export function isRegistryUnavailable(error: unknown): boolean {
  return error instanceof Fault && error.code === 'UNAVAILABLE'
}

/**
 * Fetches an image with its layers unpacked, ready for a container; its id. Calls for the same image with the same login share one transfer, and
 * other images at the same time fetch a layer in common once. A caller's abort rejects with its reason and leaves the others their
 * transfer.
 *
 * Faults: INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED and PERMISSION_DENIED, UNAVAILABLE (isRegistryUnavailable), DATA_LOSS (not what its digest
 * says), RESOURCE_EXHAUSTED (the disk, or a limit), DEADLINE_EXCEEDED (nothing moved for `stallMs`), UNIMPLEMENTED.
 */
export async function pullImage(
  engine: Engine,
  ref: string,
  request: PullRequest = {},
): Promise<string> {
  const { signal } = request
  signal?.throwIfAborted()
  const reference = referenceOf(ref)
  const credentials = request.auth && requestCredentials(request.auth, reference)
  const key = keyOf(engine, reference, request.platform, credentials)
  const counters = countersOf(engine)
  counters.asked++
  let transfer = transfers.get(key)
  if (transfer) counters.joined++
  else transfer = begin(engine, key, reference, request, credentials)
  transfer.callers++
  return wait(transfer, key, signal)
}

function referenceOf(ref: string): Reference {
  if (digestIn(ref) !== undefined) {
    throw new Fault('INVALID_ARGUMENT', `${ref} is an image's id: only a name can be pulled`)
  }
  return parseReference(ref)
}

/** Another login is another transfer: who may not see an image must not get it by asking at the right moment. */
function keyOf(
  engine: Engine,
  reference: Reference,
  platform: string | undefined,
  credentials: Credentials | undefined,
): string {
  const login = createHash('sha256')
    .update(JSON.stringify(credentials ?? null))
    .digest('hex')
  return [engine.root, formatReference(reference), platform ?? '', login].join('\n')
}

async function wait(
  transfer: Transfer,
  key: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  let onAbort: (() => void) | undefined
  try {
    if (signal === undefined) return await transfer.result
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort, { once: true })
    })
    return await Promise.race([transfer.result, aborted])
  } finally {
    if (onAbort) signal?.removeEventListener('abort', onAbort)
    transfer.callers--
    if (transfer.callers === 0) end(transfer, key, new Fault('DEADLINE_EXCEEDED', CALLED_OFF))
  }
}

const CALLED_OFF = 'the pull was called off'

/** Nobody joins it any more; where it is still at work, it stops. */
function end(transfer: Transfer, key: string, reason: unknown): void {
  if (transfers.get(key) === transfer) transfers.delete(key)
  transfer.controller.abort(reason)
}

function begin(
  engine: Engine,
  key: string,
  reference: Reference,
  request: PullRequest,
  credentials: Credentials | undefined,
): Transfer {
  const counters = countersOf(engine)
  const controller = new AbortController()
  const progress = new PullProgress(counters)
  const { promise: stopped, reject: stop } = rejecting()
  // Rejects though the work may hang where no abort is heard, as in a write to a dead disk.
  controller.signal.addEventListener('abort', () => stop(controller.signal.reason), { once: true })
  const transfer: Transfer = {
    name: formatReference(reference),
    controller,
    progress,
    startMs: performance.now(),
    callers: 0,
    isQueued: true,
    // After this the callers are counted, so the work begins in a later turn.
    result: Promise.race([Promise.resolve().then(() => work()), stopped]),
  }
  const work = async (): Promise<string> => {
    using _turn = await turns.take(controller.signal)
    transfer.isQueued = false
    const store = openImages(engine)
    using _watch = watch(store, transfer, stallOf(request))
    return await transferImage(engine, store, transfer, { reference, request, credentials })
  }
  transfers.set(key, transfer)
  transfer.result.then(
    () => {
      counters.succeeded++
      counters.tookMs += performance.now() - transfer.startMs
      if (transfers.get(key) === transfer) transfers.delete(key)
    },
    () => {
      if (transfer.callers === 0) counters.cancelled++
      else counters.failed++
      end(transfer, key, new Fault('DEADLINE_EXCEEDED', CALLED_OFF))
    },
  )
  return transfer
}

function rejecting(): { promise: Promise<never>; reject: (reason: unknown) => void } {
  let reject: (reason: unknown) => void = () => undefined
  const promise = new Promise<never>((_, fail) => {
    reject = fail
  })
  promise.catch(() => undefined)
  return { promise, reject }
}

// -- one transfer ------------------------------------------------------------------------------------------------------

interface Asked {
  readonly reference: Reference
  readonly request: PullRequest
  readonly credentials: Credentials | undefined
}

async function transferImage(
  engine: Engine,
  store: ImageStore,
  transfer: Transfer,
  asked: Asked,
): Promise<string> {
  const { signal } = transfer.controller
  let id: string
  try {
    // From before the first blob until the layers are known to be whole.
    using _hold = await holdContent(store, signal)
    const pulled = await fetchWithLogins(engine, store, transfer, asked)
    id = pulled.id
    await prepareChain(store.layers, store.catalog.get(pulled.id).diffIds)
    tellOfImage(engine, 'pull', pulled.id, pulled.name)
  } catch (error) {
    throw await afterFailure(engine, transfer.name, error)
  }
  await collectIfWanted(engine)
  if (asked.request.keepBlobs === false) void dropArchives(engine, store)
  return id
}

/** What is under way and known of the archives below a root. */
interface Dropping {
  readonly proofs: Proofs
  isRunning: boolean
  /** A pull has ended meanwhile: its archives are not among those that are being looked at. */
  isWanted: boolean
}
const droppings = new Map<string, Dropping>()

/** Beside the pod's start, which need not wait for it. Where others are at work, the archives go after the next pull. */
async function dropArchives(engine: Engine, store: ImageStore): Promise<void> {
  const known = droppings.get(engine.root)
  const dropping = known ?? { proofs: new Map(), isRunning: false, isWanted: false }
  droppings.set(engine.root, dropping)
  dropping.isWanted = true
  if (dropping.isRunning) return
  dropping.isRunning = true
  try {
    const { dropBlobs } = await import('../image/drop-blobs.ts')
    while (dropping.isWanted) {
      dropping.isWanted = false
      await dropBlobs(store, { wait: false, proofs: dropping.proofs })
    }
  } catch (error) {
    engine.warn(`the archives of unpacked layers stay for now: ${describe(error)}`)
  } finally {
    dropping.isRunning = false
  }
}

/** With the request's login first, and where the registry refuses that, with the node's own. */
async function fetchWithLogins(
  engine: Engine,
  store: ImageStore,
  transfer: Transfer,
  { reference, request, credentials }: Asked,
): Promise<Pulled> {
  const attempt = (login: Credentials | undefined): Promise<Pulled> =>
    fetchImage(store, transfer.name, {
      ...request.registries,
      platform: request.platform,
      credentials: login,
      progress: transfer.progress.report,
      signal: transfer.controller.signal,
    })
  if (credentials === undefined) return attempt(undefined)
  try {
    return await attempt(credentials)
  } catch (error) {
    const isRefused =
      error instanceof Fault && ['UNAUTHENTICATED', 'PERMISSION_DENIED'].includes(error.code)
    if (!isRefused || !(await hasOwnLogin(engine, reference))) throw error
    try {
      return await attempt(undefined)
    } catch (second) {
      transfer.controller.signal.throwIfAborted()
      // The caller knows of its own login only.
      engine.warn(`pulling ${transfer.name} with the node's own login: ${describe(second)}`)
      throw error
    }
  }
}

async function hasOwnLogin(engine: Engine, { domain, path }: Reference): Promise<boolean> {
  try {
    return (await findCredentials(domain, path)) !== undefined
  } catch (error) {
    engine.warn(`the node's own logins cannot be read: ${describe(error)}`)
    return false
  }
}

/** Makes room where the disk is full: what this pull has stored belongs to no image, so kubelet would find nothing to remove. */
async function afterFailure(engine: Engine, name: string, error: unknown): Promise<unknown> {
  const isFull = isErrno(error, 'ENOSPC', 'EDQUOT')
  if (isFull || (error instanceof Fault && error.code === 'RESOURCE_EXHAUSTED')) {
    await collectSoon(engine, { partials: true })
  } else {
    await collectIfWanted(engine)
  }
  if (!isFull) return error
  return new Fault('RESOURCE_EXHAUSTED', `no space is left on the disk to store ${name}`, {
    cause: error,
  })
}

/** Stops a transfer in which nothing has moved for too long. What others fetch and unpack counts: it may wait for their blob, or for a thread. */
/** What a timer can wait (24 days). */
const FOR_EVER_MS = 2 ** 31 - 1

const stallOf = ({ stallMs = PULL_STALL_MS }: PullRequest): number => stallMs || FOR_EVER_MS

function watch(store: ImageStore, transfer: Transfer, stallMs: number): Disposable {
  const { progress, controller, name } = transfer
  const state = (): string => `${progress.events} ${partialBytes(store)} ${unpackedBytes()}`
  let seen = state()
  let sinceMs = performance.now()
  const timer = setInterval(() => {
    const now = state()
    if (now !== seen) {
      seen = now
      sinceMs = performance.now()
    } else if (performance.now() - sinceMs >= stallMs) {
      const text = `the pull of ${name} was given up: nothing has moved for ${stallMs / 1000} s`
      controller.abort(new Fault('DEADLINE_EXCEEDED', text))
    }
  }, stallMs / LOOKS_PER_STALL)
  timer.unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

function partialBytes(store: ImageStore): number {
  try {
    return store.blobs.partial().bytes
  } catch {
    // Out of file descriptors, for example: nothing of others is seen to move, and a timer has nobody to tell.
    return 0
  }
}
