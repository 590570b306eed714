import { type KeyObject, sign as signBytes } from 'node:crypto'
import { MEDIA_TYPES } from '../../src/spec/image.ts'
import { sha256, type TestRegistry } from './registry.ts'

const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json'
export const SIGNATURE_ARTIFACT = 'application/vnd.dev.cosign.artifact.sig.v1+json'

/** What cosign signs, in its spelling. */
export function payloadOf(digest: string, identity: string): Buffer {
  return Buffer.from(
    JSON.stringify({
      critical: {
        identity: { 'docker-reference': identity },
        image: { 'docker-manifest-digest': digest },
        type: 'cosign container image signature',
      },
      optional: null,
    }),
  )
}

export function sign(payload: Buffer, key: KeyObject): string {
  const algorithm = key.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  return signBytes(algorithm, payload, key).toString('base64')
}

/** A signature's place in a registry: the manifest that cosign pushes for it. */
export function signatureManifest(
  registry: TestRegistry,
  repository: string,
  signatures: readonly { readonly payload: Buffer; readonly signature: string }[],
): Record<string, unknown> {
  const layers = signatures.map(({ payload, signature }) => ({
    mediaType: SIMPLE_SIGNING,
    ...registry.blob(repository, payload),
    annotations: { 'dev.cosignproject.cosign/signature': signature },
  }))
  const config = registry.blob(
    repository,
    Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [] } })),
  )
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, ...config },
    layers,
  }
}

/** Under the tag that cosign gives the signatures of an image. */
export function attachSignatures(
  registry: TestRegistry,
  repository: string,
  digest: string,
  signatures: readonly { readonly payload: Buffer; readonly signature: string }[],
): void {
  const document = signatureManifest(registry, repository, signatures)
  registry.manifest(
    repository,
    `${digest.replace(':', '-')}.sig`,
    document,
    MEDIA_TYPES.ociManifest,
  )
}

/** As cosign does in its OCI 1.1 mode: a manifest that refers to the image, listed under the tag that stands for the referrers API. */
export function referSignatures(
  registry: TestRegistry,
  repository: string,
  subject: { readonly mediaType: string; readonly digest: string; readonly size: number },
  signatures: readonly { readonly payload: Buffer; readonly signature: string }[],
  artifactType: string = SIGNATURE_ARTIFACT,
): void {
  const document = {
    ...signatureManifest(registry, repository, signatures),
    artifactType,
    subject,
  }
  const tag = `signature-${sha256(Buffer.from(JSON.stringify(document))).slice(7, 19)}`
  const entry = registry.manifest(repository, tag, document, MEDIA_TYPES.ociManifest)
  registry.manifest(
    repository,
    subject.digest.replace(':', '-'),
    {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociIndex,
      manifests: [{ ...entry, artifactType }],
    },
    MEDIA_TYPES.ociIndex,
  )
}
