import { gzipSync } from 'node:zlib'
import { machineArchitecture } from '../../rootfs/layout.ts'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { type TarEntry, tar } from './images.ts'
import { sha256, type TestRegistry } from './registry.ts'

/** An image in a test's registry. */
export interface PushedImage {
  /** `127.0.0.1:PORT/REPOSITORY:TAG`. */
  readonly name: string
  /** The configuration's digest. */
  readonly id: string
  /** The manifest's. */
  readonly digest: string
  /** Digests of the compressed layers, bottom first. */
  readonly layers: readonly string[]
  readonly diffIds: readonly string[]
}

/** Puts an image into the registry; uncompressed in content, so that its layers have the size of their files. */
export function pushImage(
  registry: TestRegistry,
  repository: string,
  tag: string,
  image: {
    readonly layers: readonly (readonly TarEntry[])[]
    readonly config?: Readonly<Record<string, unknown>>
    readonly annotations?: Readonly<Record<string, string>>
    /** Of the compression: 0 without. */
    readonly level?: number
    /** Lies about the layers' content. */
    readonly diffIds?: readonly string[]
  },
): PushedImage {
  const archives = image.layers.map((entries) => tar(entries))
  const layers = archives.map((archive) =>
    registry.blob(repository, gzipSync(archive, { level: image.level ?? 0 })),
  )
  const diffIds = image.diffIds ?? archives.map(sha256)
  const config = registry.blob(
    repository,
    Buffer.from(
      JSON.stringify({
        architecture: machineArchitecture(),
        os: 'linux',
        config: image.config ?? {},
        rootfs: { type: 'layers', diff_ids: diffIds },
      }),
    ),
  )
  const { digest } = registry.manifest(
    repository,
    tag,
    {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { mediaType: MEDIA_TYPES.ociConfig, ...config },
      layers: layers.map((layer) => ({ mediaType: MEDIA_TYPES.ociLayerGzip, ...layer })),
      ...(image.annotations === undefined ? {} : { annotations: image.annotations }),
    },
    MEDIA_TYPES.ociManifest,
  )
  return {
    name: `${registry.host}/${repository}:${tag}`,
    id: config.digest,
    digest,
    layers: layers.map((layer) => layer.digest),
    diffIds,
  }
}
