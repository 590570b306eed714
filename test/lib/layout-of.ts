import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Descriptor, ImageConfig, Manifest } from '../../src/spec/image.ts'

/** The documents of an image below a berth's root, by its id. */
export function documentsOf(
  root: string,
  id: string,
): { manifest: Manifest; config: ImageConfig; digest: string } {
  const blob = (digest: string) => readFileSync(blobPath(root, digest), 'utf8')
  const file = join(root, 'images/records', `${id.replace('sha256:', '')}.json`)
  const record = JSON.parse(readFileSync(file, 'utf8')) as { manifest: string }
  return {
    manifest: JSON.parse(blob(record.manifest)) as Manifest,
    config: JSON.parse(blob(id)) as ImageConfig,
    digest: record.manifest,
  }
}

function blobPath(root: string, digest: string): string {
  return join(root, 'images/blobs', digest.replace(':', '/'))
}

/** Writes an OCI layout with one image of a berth's store, under a tag, for other programs to read. */
export function writeLayoutOf(root: string, id: string, directory: string, tag: string): void {
  const { manifest, digest } = documentsOf(root, id)
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true })
  const all = [digest, manifest.config.digest, ...manifest.layers.map((layer) => layer.digest)]
  for (const each of all)
    copyFileSync(blobPath(root, each), join(directory, 'blobs', each.replace(':', '/')))
  const top: Partial<Descriptor> = {
    mediaType: manifest.mediaType ?? '',
    digest: digest as Descriptor['digest'],
    size: readFileSync(blobPath(root, digest)).length,
    annotations: { 'org.opencontainers.image.ref.name': tag },
  }
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  writeFileSync(
    join(directory, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [top] }),
  )
}
