/** Writes images as an OCI image layout (image-spec, "Image Layout Specification"): the same input gives the same bytes. */
import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type TarEntry, tar } from './tar.ts'

/** `execution parameters` of the image-spec's config, in the spec's own words. */
export interface ImageConfig {
  readonly Cmd?: readonly string[]
  readonly Entrypoint?: readonly string[]
  readonly Env?: readonly string[]
  readonly WorkingDir?: string
  readonly User?: string
  readonly Volumes?: Readonly<Record<string, object>>
  readonly ExposedPorts?: Readonly<Record<string, object>>
  readonly Labels?: Readonly<Record<string, string>>
  readonly StopSignal?: string
}

export interface ImageSource {
  /** org.opencontainers.image.ref.name of the index entry. */
  readonly name: string
  /** Bottom-most first: entries, or the bytes of an archive. */
  readonly layers: readonly (readonly TarEntry[] | Uint8Array)[]
  readonly config?: ImageConfig
  readonly compression?: 'none' | 'gzip'
  readonly architecture?: string
}

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

/** The word of the image-spec (Go's GOARCH) for this machine. */
export function machineArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch
}

/** Replaces the directory by a layout with these images; returns the descriptor of each one's manifest. */
export function writeLayout(directory: string, images: readonly ImageSource[]): Descriptor[] {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true })
  const manifests = images.map((image) => writeImage(directory, image))
  writeFileSync(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: manifests.map((manifest, i) => ({
      ...manifest,
      platform: { architecture: images[i]?.architecture ?? machineArchitecture(), os: 'linux' },
      annotations: { 'org.opencontainers.image.ref.name': images[i]?.name ?? '' },
    })),
  }
  writeFileSync(join(directory, 'index.json'), JSON.stringify(index, undefined, 2))
  return manifests
}

function writeImage(directory: string, image: ImageSource): Descriptor {
  const diffs = image.layers.map((layer) =>
    layer instanceof Uint8Array ? Buffer.from(layer) : tar(layer),
  )
  const compressed = image.compression !== 'none'
  const layers = diffs.map((diff) =>
    writeBlob(
      directory,
      `application/vnd.oci.image.layer.v1.tar${compressed ? '+gzip' : ''}`,
      compressed ? gzipSync(diff, { level: 9 }) : diff,
    ),
  )
  const config = {
    created: '1970-01-01T00:00:00Z',
    architecture: image.architecture ?? machineArchitecture(),
    os: 'linux',
    config: image.config ?? {},
    rootfs: { type: 'layers', diff_ids: diffs.map(digest) },
    history: diffs.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'berth' })),
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: writeBlob(
      directory,
      'application/vnd.oci.image.config.v1+json',
      Buffer.from(JSON.stringify(config)),
    ),
    layers,
  }
  return writeBlob(directory, manifest.mediaType, Buffer.from(JSON.stringify(manifest)))
}

function writeBlob(directory: string, mediaType: string, content: Buffer): Descriptor {
  const name = digest(content)
  writeFileSync(join(directory, 'blobs', name.replace(':', '/')), content)
  return { mediaType, digest: name, size: content.length }
}

function digest(content: Uint8Array): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`
}
