import { Fault } from '../base/fault.ts'
import {
  type Descriptor,
  type Digest,
  type ImageConfig,
  type Index,
  type Manifest,
  MEDIA_TYPES,
  type Platform,
} from '../spec/image.ts'
import { algorithmOf, digestOf, parseDigest, verifyBytes } from './digest.ts'
import {
  bad,
  compact,
  type Fields,
  flag,
  isObject,
  type Loose,
  list,
  object,
  own,
  parseObject,
  text,
  textMap,
  texts,
} from './json.ts'

/** Bytes of an index or manifest: what registries themselves accept. */
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024
/** Bytes of an image configuration. */
export const CONFIG_BYTES_MAX = 4 * 1024 * 1024
export const LAYERS_MAX = 512
export const INDEX_ENTRIES_MAX = 1024
/** An index may list indexes; deeper than this nobody nests. */
export const INDEX_DEPTH_MAX = 4
/** Bytes of one layer as it travels: 128 GiB. */
export const LAYER_BYTES_MAX = 128 * 1024 ** 3
const HISTORY_MAX = 4096
/** Bytes that a descriptor may carry itself in `data` (image-spec, "Embedded content"). */
const DATA_BYTES_MAX = 1024 * 1024

/** Everything that `Accept` names when a manifest is asked for. */
export const MANIFEST_MEDIA_TYPES: readonly string[] = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerIndex,
  MEDIA_TYPES.dockerManifest,
]

const SCHEMA1 = /^application\/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)$/

/** How a layer's blob is packed. */
export type Compression = 'none' | 'gzip' | 'zstd'

const LAYERS: Record<string, Compression> = {
  [MEDIA_TYPES.ociLayer]: 'none',
  [MEDIA_TYPES.ociLayerGzip]: 'gzip',
  [MEDIA_TYPES.ociLayerZstd]: 'zstd',
  [MEDIA_TYPES.dockerLayer]: 'none',
  [MEDIA_TYPES.dockerLayerGzip]: 'gzip',
  [MEDIA_TYPES.dockerLayerZstd]: 'zstd',
  [MEDIA_TYPES.dockerForeignLayerGzip]: 'gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar': 'none',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd': 'zstd',
}

/** The manifest that berth writes for a configuration and its layers. */
export function ociManifest(config: Uint8Array, layers: Descriptor[]): Manifest {
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(config), size: config.length },
    layers,
  }
}

/** A layer that a registry need not hold (Windows base layers). */
export function isForeignLayer(mediaType: string): boolean {
  return mediaType.includes('.foreign.') || mediaType.includes('.nondistributable.')
}

/** UNIMPLEMENTED, by name, for an encrypted layer and for every kind that berth does not unpack. */
export function layerCompression(mediaType: string, what: string): Compression {
  if (mediaType.endsWith('+encrypted')) {
    throw new Fault(
      'UNIMPLEMENTED',
      `${what} is encrypted (${mediaType}); berth cannot decrypt layers`,
    )
  }
  const compression = Object.hasOwn(LAYERS, mediaType) ? LAYERS[mediaType] : undefined
  if (compression !== undefined) return compression
  throw new Fault(
    'UNIMPLEMENTED',
    `${what} is of type ${mediaType}, which is no layer berth can unpack`,
  )
}

// -- descriptors ------------------------------------------------------------------------------------------

function checkPlatform(fields: Fields, what: string): Platform {
  const architecture = text(fields, 'architecture', what)
  const os = text(fields, 'os', what)
  if (architecture === undefined || os === undefined)
    throw bad(what, 'a platform names os and architecture')
  return compact<Platform>({
    architecture,
    os,
    'os.version': text(fields, 'os.version', what),
    'os.features': texts(fields, 'os.features', what),
    variant: text(fields, 'variant', what) || undefined,
  } satisfies Loose<Platform>)
}

/** RFC 6838, "Naming Requirements", as the image-spec's schemas have it: no text that looks otherwise on a terminal or in a log. */
const MEDIA_TYPE =
  /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/

/** Empty is absent, as in what Go writes. */
function checkMediaType(fields: Fields, name: string, what: string): string | undefined {
  const value = text(fields, name, what)
  if (value === undefined || value === '') return undefined
  if (!MEDIA_TYPE.test(value)) throw bad(what, `${name} is no media type`)
  return value
}

/** A checked descriptor; `data` is verified against the digest here, once. */
export function checkDescriptor(value: unknown, what: string): Descriptor {
  if (!isObject(value)) throw bad(what, 'it must be an object')
  const mediaType = checkMediaType(value, 'mediaType', what)
  if (mediaType === undefined) throw bad(what, 'it has no mediaType')
  const size = own(value, 'size')
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw bad(what, 'size must be a whole number of bytes')
  }
  if (size > LAYER_BYTES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `${what} has ${size} bytes; the limit is ${LAYER_BYTES_MAX}`,
    )
  }
  const digest = parseDigest(own(value, 'digest'), what)
  const data = text(value, 'data', what)
  const platform = object(value, 'platform', what)
  const descriptor = compact<Descriptor>({
    mediaType,
    digest,
    size,
    urls: texts(value, 'urls', what),
    annotations: textMap(value, 'annotations', what),
    data,
    artifactType: checkMediaType(value, 'artifactType', what),
    platform: platform === undefined ? undefined : checkPlatform(platform, what),
  } satisfies Loose<Descriptor>)
  embeddedData(descriptor, what)
  return descriptor
}

/** The content that the descriptor carries itself, verified; undefined where it carries none. */
export function embeddedData(descriptor: Descriptor, what: string): Buffer | undefined {
  if (descriptor.data === undefined) return undefined
  if (descriptor.size > DATA_BYTES_MAX) throw bad(what, `its data is over ${DATA_BYTES_MAX} bytes`)
  const bytes = Buffer.from(descriptor.data, 'base64')
  if (bytes.length !== descriptor.size) throw bad(what, 'its data has not the size it names')
  verifyBytes(bytes, descriptor.digest, `the data of ${what}`)
  return bytes
}

// -- index and manifest ------------------------------------------------------------------------------------

export type Document =
  | { readonly kind: 'index'; readonly mediaType: string; readonly index: Index }
  | { readonly kind: 'manifest'; readonly mediaType: string; readonly manifest: Manifest }

/**
 * Reads an index or a manifest, OCI or Docker schema 2. `mediaType` is what the registry's Content-Type or the descriptor says.
 * A document that could be read as both kinds is refused (CVE-2021-41190), so is one whose own mediaType says otherwise than
 * the outside, and schema 1.
 */
export function parseDocument(
  bytes: Uint8Array,
  mediaType: string | undefined,
  what: string,
): Document {
  const fields = parseObject(bytes, MANIFEST_BYTES_MAX, what)
  const inside = checkMediaType(fields, 'mediaType', what)
  const outside = mediaType?.split(';')[0]?.trim().toLowerCase()
  if (
    own(fields, 'schemaVersion') === 1 ||
    SCHEMA1.test(inside ?? '') ||
    (inside === undefined && SCHEMA1.test(outside ?? '') && own(fields, 'fsLayers') !== undefined)
  ) {
    throw new Fault(
      'UNIMPLEMENTED',
      `${what} is a Docker schema 1 manifest, which nothing verifies; push the image again with a current tool`,
    )
  }
  if (own(fields, 'schemaVersion') !== 2) throw bad(what, 'schemaVersion must be 2')
  // Go's decoder takes "Layers" for "layers": it would see another image than we do.
  const twin = Object.keys(fields).find(
    (key) => !DOCUMENT_KEYS.has(key) && FOLDED_KEYS.has(folded(key)),
  )
  if (twin !== undefined) throw bad(what, `it has a field ${JSON.stringify(twin)} in another case`)
  const isIndex = own(fields, 'manifests') !== undefined
  const isManifest = ['layers', 'config', 'fsLayers', 'history', 'blobs'].some(
    (name) => own(fields, name) !== undefined,
  )
  if (isIndex && isManifest) {
    throw bad(
      what,
      'it is an index and a manifest at once, so two readers could see two images in it',
    )
  }
  const known = outside !== undefined && MANIFEST_MEDIA_TYPES.includes(outside)
  if (inside !== undefined && known && inside !== outside) {
    throw bad(what, `it calls itself ${inside} but was given as ${outside}`)
  }
  const type =
    inside ?? (known ? outside : isIndex ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest)
  if (type === MEDIA_TYPES.ociIndex || type === MEDIA_TYPES.dockerIndex) {
    if (!isIndex) throw bad(what, `it is given as ${type} but lists no manifests`)
    return { kind: 'index', mediaType: type, index: checkIndex(fields, what) }
  }
  if (type === MEDIA_TYPES.ociManifest || type === MEDIA_TYPES.dockerManifest) {
    if (isIndex) throw bad(what, `it is given as ${type} but lists manifests`)
    return { kind: 'manifest', mediaType: type, manifest: checkManifest(fields, what) }
  }
  throw new Fault(
    'UNIMPLEMENTED',
    `${what} is of type ${type}, which is no image manifest berth knows`,
  )
}

const DOCUMENT_KEYS: ReadonlySet<string> = new Set(
  'schemaVersion mediaType artifactType config layers manifests subject annotations'.split(' '),
)
const FOLDED_KEYS: ReadonlySet<string> = new Set([...DOCUMENT_KEYS].map(folded))

/** As Go compares: also \u017f is an s, and \u212a a k. */
function folded(key: string): string {
  return key.toLowerCase().toUpperCase()
}

function checkIndex(fields: Fields, what: string): Index {
  const manifests = list(fields, 'manifests', what, INDEX_ENTRIES_MAX) ?? []
  return compact<Index>({
    schemaVersion: 2,
    mediaType: checkMediaType(fields, 'mediaType', what),
    artifactType: checkMediaType(fields, 'artifactType', what),
    manifests: manifests.map((entry, i) => checkDescriptor(entry, `manifest ${i + 1} of ${what}`)),
    subject: undefined,
    annotations: textMap(fields, 'annotations', what),
  } satisfies Loose<Index>)
}

function checkManifest(fields: Fields, what: string): Manifest {
  const layers = list(fields, 'layers', what, LAYERS_MAX)
  if (layers === undefined) throw bad(what, 'it lists no layers')
  const subject = own(fields, 'subject')
  return compact<Manifest>({
    schemaVersion: 2,
    mediaType: checkMediaType(fields, 'mediaType', what),
    artifactType: checkMediaType(fields, 'artifactType', what),
    config: checkDescriptor(own(fields, 'config'), `the configuration of ${what}`),
    layers: layers.map((entry, i) => checkDescriptor(entry, `layer ${i + 1} of ${what}`)),
    subject: subject === undefined ? undefined : checkDescriptor(subject, `the subject of ${what}`),
    annotations: textMap(fields, 'annotations', what),
  } satisfies Loose<Manifest>)
}

/** Whether it holds something else than the layers of a file system: a signature, a chart, an SBOM. */
export function isArtifact({ artifactType, config }: Manifest): boolean {
  return artifactType !== undefined || !IMAGE_CONFIGS.has(config.mediaType)
}

const IMAGE_CONFIGS: ReadonlySet<string> = new Set([
  MEDIA_TYPES.ociConfig,
  MEDIA_TYPES.dockerConfig,
  // Docker Hub holds images whose configuration has the plain type; docker and containerd take them.
  'application/octet-stream',
])

export function artifactFault({ artifactType, config }: Manifest, what: string): Fault {
  const type = artifactType ?? config.mediaType
  return new Fault(
    'UNIMPLEMENTED',
    `${what} is an artifact (${type}), not an image that can be run`,
  )
}

/** UNIMPLEMENTED for what is no image of a file system: artifacts, encrypted layers, unknown layer types. */
export function checkRunnable(manifest: Manifest, what: string): void {
  if (isArtifact(manifest)) throw artifactFault(manifest, what)
  if (manifest.config.size > CONFIG_BYTES_MAX) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `the configuration of ${what} has ${manifest.config.size} bytes; the limit is ${CONFIG_BYTES_MAX}`,
    )
  }
  manifest.layers.forEach((layer, i) => {
    layerCompression(layer.mediaType, `layer ${i + 1} of ${what}`)
  })
}

// -- configuration ----------------------------------------------------------------------------------------

type RunConfig = NonNullable<ImageConfig['config']>
type HistoryEntry = NonNullable<ImageConfig['history']>[number]

/** RFC 3339, section 5.6. Go's tools read no other time in a configuration, so there is no image with one. */
const TIME = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/

function time(fields: Fields, name: string, what: string): string | undefined {
  const value = text(fields, name, what)
  if (value === undefined || TIME.test(value)) return value
  throw bad(what, `${name} must be a time such as 2026-01-31T12:00:00Z`)
}

/** A set as Go writes one: names to empty objects. */
function names(fields: Fields, name: string, what: string): Fields | undefined {
  const value = object(fields, name, what)
  const isSet = Object.values(value ?? {}).every((entry) => entry === null || isObject(entry))
  if (isSet) return value
  throw bad(what, `${name} must map names to empty objects`)
}

function checkRunConfig(fields: Fields, what: string): RunConfig {
  return compact<RunConfig>({
    User: text(fields, 'User', what),
    ExposedPorts: names(fields, 'ExposedPorts', what),
    Env: texts(fields, 'Env', what),
    Entrypoint: texts(fields, 'Entrypoint', what),
    Cmd: texts(fields, 'Cmd', what),
    Volumes: names(fields, 'Volumes', what),
    WorkingDir: text(fields, 'WorkingDir', what),
    Labels: textMap(fields, 'Labels', what),
    StopSignal: text(fields, 'StopSignal', what),
    ArgsEscaped: flag(fields, 'ArgsEscaped', what),
    Shell: texts(fields, 'Shell', what),
    Healthcheck: object(fields, 'Healthcheck', what),
    OnBuild: texts(fields, 'OnBuild', what),
  } satisfies Loose<RunConfig>)
}

function checkHistory(value: unknown, what: string): HistoryEntry {
  if (!isObject(value)) throw bad(what, 'history must hold objects')
  return compact<HistoryEntry>({
    created: time(value, 'created', what),
    author: text(value, 'author', what),
    created_by: text(value, 'created_by', what),
    comment: text(value, 'comment', what),
    empty_layer: flag(value, 'empty_layer', what),
  } satisfies Loose<HistoryEntry>)
}

/**
 * Layers are kept by the sha256 of their tar. containerd and containers/storage hash with it alone too, so an image with other diff ids runs nowhere and
 * no tool makes one; blobs, which do come with sha512, are kept by either.
 */
function checkDiffId(diffId: Digest, i: number, what: string): Digest {
  if (algorithmOf(diffId) === 'sha256') return diffId
  throw new Fault('UNIMPLEMENTED', `diff id ${i + 1} of ${what} is no sha256: ${diffId}`)
}

/**
 * An image's configuration with the fields that berth knows. `layerCount` is the manifest's: where the two differ, diff ids
 * could not be matched with layers.
 */
export function parseConfig(bytes: Uint8Array, what: string, layerCount?: number): ImageConfig {
  const fields = parseObject(bytes, CONFIG_BYTES_MAX, what)
  const rootfs = object(fields, 'rootfs', what)
  if (rootfs === undefined) throw bad(what, 'it has no rootfs')
  if (text(rootfs, 'type', what) !== 'layers') throw bad(what, 'rootfs.type must be "layers"')
  const diffIds = (list(rootfs, 'diff_ids', what, LAYERS_MAX) ?? []).map((value, i) =>
    checkDiffId(parseDigest(value, `diff id ${i + 1} of ${what}`), i, what),
  )
  if (layerCount !== undefined && layerCount !== diffIds.length) {
    throw bad(what, `it names ${diffIds.length} diff ids for ${layerCount} layers`)
  }
  const run = object(fields, 'config', what)
  return compact<ImageConfig>({
    created: time(fields, 'created', what),
    author: text(fields, 'author', what),
    ...checkPlatform(fields, what),
    'os.version': text(fields, 'os.version', what),
    'os.features': texts(fields, 'os.features', what),
    variant: text(fields, 'variant', what) || undefined,
    config: run === undefined ? undefined : checkRunConfig(run, what),
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: list(fields, 'history', what, HISTORY_MAX)?.map((entry) => checkHistory(entry, what)),
  } satisfies Loose<ImageConfig>)
}
