import { describe, Fault } from '../base/fault.ts'
import type { Image } from '../image/catalog.ts'
import { readConfig } from '../image/inspect.ts'
import { MANIFEST_BYTES_MAX, parseDocument } from '../image/manifest.ts'
import { type ImageStore, shortId } from '../image/store.ts'
import { chainId } from '../layer/chain.ts'
import type { ImageConfig } from '../spec/image.ts'
import type { Pinned } from './image-pins.ts'
import { imageBytes } from './image-usage.ts'

/** An image as the CRI shows it. */
export interface ImageView {
  /** The configuration's digest: the same in a pull's answer, in lists and in containers. */
  readonly id: string
  /** Full tagged names. */
  readonly repoTags: readonly string[]
  readonly repoDigests: readonly string[]
  /** What it takes on the disk, blobs and unpacked layers; what other images share of it included. */
  readonly sizeBytes: number
  /** The user of the image where that is a number; never together with `username`. */
  readonly uid: number | undefined
  /** '' where the image names no user, or a number. */
  readonly username: string
  /** An administrator's pattern holds it. */
  readonly pinned: boolean
}

/** The largest id that Linux accepts: (uid_t)-1 means "no change". */
const ID_MAX = 4294967294
/** As long as a line of useradd(8) could ever make it: an image's author must not fill the answers. */
const USER_LENGTH_MAX = 256
/** Of an image's annotations, together; more are an attack on the answer's size. */
const ANNOTATIONS_BYTES_MAX = 256 * 1024

/**
 * The CRI's two halves of an image's `user[:group]`. A number out of range is INVALID_ARGUMENT and never passed on as a name: kubelet decides by
 * this answer whether the container would run as root (CVE-2024-40635, CVE-2026-46680).
 */
export function splitUser(user: string): { uid: number | undefined; username: string } {
  const [who = ''] = user.split(':')
  if (who.length > USER_LENGTH_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `the image's user is longer than ${USER_LENGTH_MAX} characters`,
    )
  }
  if (!/^-?[0-9]+$/.test(who)) return { uid: undefined, username: who }
  const uid = Number(who)
  if (uid < 0 || uid > ID_MAX) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `the image's user ${who} is out of the range 0 to ${ID_MAX}`,
    )
  }
  return { uid, username: '' }
}

/** Users by image id: configurations never change, and a list must not read them all each time. */
const usersOfRoots = new Map<string, Map<string, string>>()

function usersOf(store: ImageStore): Map<string, string> {
  const known = usersOfRoots.get(store.root)
  if (known) return known
  const made = new Map<string, string>()
  usersOfRoots.set(store.root, made)
  return made
}

function userOf(store: ImageStore, image: Image): string {
  const users = usersOf(store)
  const known = users.get(image.id)
  if (known !== undefined) return known
  // What is longer is refused by splitUser all the same.
  const user = (readConfig(store, image.id).config?.User ?? '').slice(0, 2 * USER_LENGTH_MAX)
  users.set(image.id, user)
  return user
}

/** Forgets users of images that are gone. */
export function keepUsers(store: ImageStore, ids: ReadonlySet<string>): void {
  const users = usersOf(store)
  for (const id of users.keys()) if (!ids.has(id)) users.delete(id)
}

/** Throws where the configuration is damaged or its user is out of range. */
export function viewOf(store: ImageStore, image: Image, pinned: Pinned): ImageView {
  return { ...withoutUser(store, image, pinned), ...splitUser(userOf(store, image)) }
}

/** For a list: an image that cannot run is shown too, so that it can be found and removed. */
export function viewInList(
  store: ImageStore,
  image: Image,
  pinned: Pinned,
  report: (message: string) => void,
): ImageView {
  try {
    return viewOf(store, image, pinned)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    report(`image ${shortId(image.id)} cannot be run: ${describe(error)}`)
    return withoutUser(store, image, pinned)
  }
}

function withoutUser(store: ImageStore, image: Image, pinned: Pinned): ImageView {
  return {
    id: image.id,
    repoTags: image.names,
    repoDigests: image.repoDigests,
    sizeBytes: imageBytes(store, image),
    uid: undefined,
    username: '',
    pinned: pinned([...image.names, ...image.repoDigests]),
  }
}

/** The annotations of the image's manifest; none where the manifest is not here, or where they are too many. */
export function annotationsOf(store: ImageStore, image: Image): Record<string, string> {
  let bytes: Buffer
  try {
    bytes = store.blobs.read(image.manifest, MANIFEST_BYTES_MAX)
  } catch (error) {
    // A container runs without it; a pull brings it again.
    if (error instanceof Fault && ['NOT_FOUND', 'DATA_LOSS'].includes(error.code)) return {}
    throw error
  }
  const document = parseDocument(bytes, undefined, `manifest ${image.manifest}`)
  const annotations = document.kind === 'manifest' ? document.manifest.annotations : undefined
  const text = JSON.stringify(annotations ?? {})
  if (text.length > ANNOTATIONS_BYTES_MAX) return {}
  return annotations ?? {}
}

/** What `crictl inspecti` shows beside the image: a map of texts, one of them JSON. */
export function verboseInfo(image: Image, config: ImageConfig): Record<string, string> {
  return {
    info: JSON.stringify({ chainID: chainId(image.diffIds), imageSpec: config }),
  }
}
