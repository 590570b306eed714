import { Fault } from '../base/fault.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { openRepository } from './connect.ts'
import { digestOf, verifyBytes } from './digest.ts'
import {
  embeddedData,
  INDEX_DEPTH_MAX,
  INDEX_ENTRIES_MAX,
  MANIFEST_BYTES_MAX,
  parseDocument,
} from './manifest.ts'
import { atOnce } from './pull.ts'
import { destinationOf, LAYERS_AT_ONCE, type Pushed } from './push.ts'
import { type PushOptions, type PushWork, pushBlob, pushWork } from './push-blob.ts'
import { DEFAULT_TAG, formatReference, parseReference } from './reference.ts'
import { collectionNote, holdContent, type ImageStore, shortId } from './store.ts'
import { Upload } from './upload.ts'

/** One manifest or index on its way. */
interface Document {
  readonly bytes: Buffer
  readonly mediaType: string | undefined
  /** Under which the registry keeps it: a tag for the first, else the digest. */
  readonly name: string
  readonly depth: number
}

/**
 * Sends the whole index that an image was pulled with, the images for all its platforms and whatever else it lists: what of them is not here comes from where
 * the image was pulled, and goes with the next collection. Every byte stays what it is, so the digests do. The index comes last. FAILED_PRECONDITION for an
 * image that has none, or where something of it is nowhere any more.
 */
export async function pushIndex(
  store: ImageStore,
  image: string,
  destination: string,
  options: PushOptions = {},
): Promise<Pushed> {
  const { signal } = options
  const reference = destinationOf(destination)
  using _hold = await holdContent(store, signal)
  const { id, bytes, mediaType } = indexOf(store, image)
  using repository = openRepository(reference, options, store.warn)
  const upload = new Upload(repository.target, signal)
  const work = pushWork(store, upload, reference, id, options)
  collectionNote.set(store)
  const name = reference.tag ?? DEFAULT_TAG
  await pushDocument(work, { bytes, mediaType, name, depth: 0 }, new Set())
  const digest = digestOf(bytes)
  return { id, name: formatReference(reference), digest, mediaType, size: bytes.length }
}

function indexOf(
  store: ImageStore,
  image: string,
): { id: Digest; bytes: Buffer; mediaType: string } {
  const resolved = store.catalog.resolve(image)
  const { id } = resolved
  const ofImage = [...store.catalog.documents()].filter((each) => each.id === id)
  const all = new Set(ofImage.flatMap(({ index }) => index ?? []))
  const digests = resolved.index === undefined ? [...all] : [resolved.index]
  const found = digests.flatMap((digest) => {
    const bytes = store.blobs.read(digest, MANIFEST_BYTES_MAX)
    const document = parseDocument(bytes, undefined, `manifest ${digest}`)
    return document.kind === 'index' ? [{ id, bytes, mediaType: document.mediaType }] : []
  })
  const [first] = found
  if (first !== undefined && found.length === 1) return first
  throw new Fault(
    'FAILED_PRECONDITION',
    first === undefined
      ? `image ${shortId(id)} was not chosen from an index: push it without --all-platforms`
      : `image ${shortId(id)} is of ${found.length} indexes: name it as it was pulled`,
  )
}

/** What it needs goes before it: the name is there whole or not at all. */
async function pushDocument(work: PushWork, document: Document, done: Set<Digest>): Promise<void> {
  const { signal } = work.options
  const { bytes, name, depth } = document
  const digest = digestOf(bytes)
  if (depth > 0 && done.has(digest)) return
  if (done.size >= INDEX_ENTRIES_MAX || depth > INDEX_DEPTH_MAX) {
    const limits = `${INDEX_ENTRIES_MAX} manifests, ${INDEX_DEPTH_MAX} indexes in each other`
    throw new Fault('RESOURCE_EXHAUSTED', `the index holds too much; the limits are ${limits}`)
  }
  done.add(digest)
  const parsed = parseDocument(bytes, document.mediaType, `manifest ${digest}`)
  if (parsed.kind === 'index') {
    for (const entry of parsed.index.manifests) {
      const next = { name: entry.digest, mediaType: entry.mediaType, depth: depth + 1 }
      await pushDocument(work, { ...next, bytes: await bytesOf(work, entry) }, done)
    }
  } else {
    const { config, layers } = parsed.manifest
    const blobs = new Map([config, ...layers].map((blob) => [blob.digest, blob]))
    await atOnce([...blobs.values()], LAYERS_AT_ONCE, signal, async (blob, each) => {
      const options = { ...work.options, signal: each }
      if (!(await pushBlob({ ...work, options }, blob))) throw nowhere(work, `blob ${blob.digest}`)
    })
  }
  await work.upload.manifest(name, bytes, parsed.mediaType)
}

/** A manifest that the index names, verified: in the index itself, from here, or from where the image was pulled. */
async function bytesOf(work: PushWork, entry: Descriptor): Promise<Buffer> {
  const { store, options, silent } = work
  const what = `manifest ${entry.digest}`
  const given = embeddedData(entry, what) ?? stored(store, entry.digest)
  if (given !== undefined) return checked(given, entry)
  for (const name of work.sources) {
    if (silent.has(name)) continue
    try {
      const from = { ...options, credentials: undefined }
      using repository = openRepository(parseReference(name), from, store.warn)
      const { bytes } = await repository.manifest({ digest: entry.digest }, options.signal)
      return checked(bytes, entry)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (!(error instanceof Fault)) throw error
      if (error.code === 'UNAVAILABLE') silent.add(name)
    }
  }
  throw nowhere(work, what)
}

function stored(store: ImageStore, digest: Digest): Buffer | undefined {
  try {
    return store.blobs.read(digest, MANIFEST_BYTES_MAX)
  } catch (error) {
    if (error instanceof Fault && ['NOT_FOUND', 'DATA_LOSS'].includes(error.code)) return undefined
    throw error
  }
}

function checked(bytes: Buffer, { digest, size }: Descriptor): Buffer {
  verifyBytes(bytes, digest, `manifest ${digest}`)
  if (bytes.length === size) return bytes
  const text = `manifest ${digest} has ${bytes.length} bytes where the index says ${size}`
  throw new Fault('DATA_LOSS', text)
}

function nowhere({ sources }: PushWork, what: string): Fault {
  const asked = sources.length === 0 ? 'no registry is known to have it' : sources.join(', ')
  return new Fault('FAILED_PRECONDITION', `${what} of the index is not here, nor there: ${asked}`)
}
