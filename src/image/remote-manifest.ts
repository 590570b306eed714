import { Fault } from '../base/fault.ts'
import type { Digest } from '../spec/image.ts'
import { openRepository, type RegistryOptions } from './connect.ts'
import { parseDocument } from './manifest.ts'
import { choosePlatform, parsePlatform } from './platform.ts'
import { DEFAULT_TAG, formatReference, parseReference } from './reference.ts'

export interface RemoteManifest {
  /** The full name that was asked for. */
  readonly name: string
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
}

/** What a name stands for at its registry: an index or a manifest, checked; with a platform the manifest that an index has for it. Nothing is stored. */
export async function remoteManifest(
  name: string,
  options: RegistryOptions & {
    platform?: string | undefined
    signal?: AbortSignal | undefined
    warn: (message: string) => void
  },
): Promise<RemoteManifest> {
  const { signal } = options
  const reference = parseReference(name)
  const wanted = options.platform === undefined ? undefined : parsePlatform(options.platform)
  using repository = openRepository(reference, options, options.warn)
  const { tag = DEFAULT_TAG, digest } = reference
  const top = await repository.manifest(digest === undefined ? { tag } : { digest }, signal)
  const document = parseDocument(top.bytes, top.mediaType, `the manifest of ${name}`)
  const found = { name: formatReference(reference), digest: top.digest, bytes: top.bytes }
  if (wanted === undefined) return { ...found, mediaType: document.mediaType }
  if (document.kind === 'manifest') {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${name} is one manifest, not an index of several platforms`,
    )
  }
  const entry = choosePlatform(document.index.manifests, wanted, name)
  const { bytes } = await repository.manifest({ digest: entry.digest }, signal)
  return { ...found, digest: entry.digest, mediaType: entry.mediaType, bytes }
}
