/** Whether an image at its registry is signed as the node's policy asks. */
import { describe, Fault } from '../base/fault.ts'
import type { Descriptor, Digest } from '../spec/image.ts'
import { algorithmOf, hexOf } from './digest.ts'
import { matchesIdentity } from './identity.ts'
import { embeddedData, parseDocument } from './manifest.ts'
import type { Chosen, Requirement } from './policy.ts'
import { formatReference, type Reference } from './reference.ts'
import type { FetchedManifest, Repository } from './registry.ts'
import {
  type Claim,
  isSignedBy,
  PAYLOAD_BYTES_MAX,
  type PublicKey,
  parsePayload,
  readPublicKey,
} from './sigstore.ts'

/** Looked at for one manifest: nobody has so many signers, and each costs a request. */
const SIGNATURES_MAX = 64
/** Of a signature in base64: RSA with 16384 bits needs 2732. */
const SIGNATURE_LENGTH_MAX = 8192
const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json'
const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature'
/** artifactType of a referrer that cosign writes in its OCI 1.1 mode. */
const SIGNATURE_ARTIFACT = 'application/vnd.dev.cosign.artifact.sig.v1+json'
const BUNDLE_ARTIFACT = /^application\/vnd\.dev\.sigstore\.bundle/

/** A signature that holds, and what a requirement says to it. */
export interface AcceptedSignature extends Claim {
  readonly key: string
}

interface Signature {
  readonly payload: Buffer
  readonly signature: Buffer
  readonly what: string
}

/** The error that kubelet knows by its first word. */
function failed(name: string, why: string): Fault {
  return new Fault('FAILED_PRECONDITION', `SignatureValidationFailed: ${name} is refused: ${why}`)
}

/** Refuses what no signature could make good, before anything is asked of a registry. */
export function refuseByPolicy(chosen: Chosen, image: string): void {
  const where = `"${chosen.scope}" of ${chosen.file}`
  for (const requirement of chosen.requirements) {
    if (requirement.type === 'reject') throw failed(image, `${where} rejects it`)
    if (requirement.type === 'unsupported') {
      throw failed(image, `${where} asks for ${requirement.what}, which berth cannot verify`)
    }
  }
}

/** An archive carries no signatures: of what asks for one nothing is loaded. */
export function refuseArchive(chosen: Chosen, what: string): void {
  refuseByPolicy(chosen, what)
  if (chosen.requirements.some(({ type }) => type === 'sigstoreSigned'))
    throw unsigned(chosen, what)
}

function unsigned(chosen: Chosen, what: string, reasons = ''): Fault {
  const asks = `"${chosen.scope}" of ${chosen.file} asks for`
  return failed(what, reasons || `it has no signature, which ${asks}`)
}

/**
 * Every requirement needs a signature of its own that one of its keys made, for this image's digest and for an identity that it accepts. `digests` are those
 * of the index where there is one and of the manifest that was chosen from it: who signs an index has signed what it names. Fails with
 * FAILED_PRECONDITION, its text beginning with `SignatureValidationFailed`, or as the registry fails.
 */
export async function checkSignatures(
  repository: Repository,
  image: { readonly reference: Reference; readonly digests: readonly Digest[] },
  chosen: Chosen,
  signal?: AbortSignal,
): Promise<AcceptedSignature[]> {
  const { reference, digests } = image
  refuseByPolicy(chosen, formatReference(reference))
  const needed = chosen.requirements.filter((entry) => entry.type === 'sigstoreSigned')
  if (needed.length === 0) return []
  const what = `the signature policy ${chosen.file}`
  const asked = needed.map((entry) => ({
    ...entry,
    keys: entry.keys.map((key) => readPublicKey(key, what)),
  }))
  const accepted: (AcceptedSignature | undefined)[] = asked.map(() => undefined)
  const reasons = new Set<string>()
  for (const digest of digests) {
    const found = await signaturesOf(repository, digest, reasons, signal)
    for (const signature of found) {
      asked.forEach((requirement, i) => {
        const verdict = judge(signature, requirement, { reference, digest })
        if (typeof verdict === 'string') reasons.add(verdict)
        else accepted[i] ??= verdict
      })
    }
    if (accepted.every((entry) => entry !== undefined)) return accepted
  }
  const why = [...reasons].slice(0, SHOWN_MAX).join('; ')
  throw unsigned(chosen, formatReference(reference), why)
}

/** Reasons in one message. */
const SHOWN_MAX = 8

type Asked = Omit<Extract<Requirement, { type: 'sigstoreSigned' }>, 'keys'> & {
  readonly keys: readonly PublicKey[]
}

/** What it vouches for, or why it counts for nothing. Nothing of a payload is read before its signature holds. */
function judge(
  { payload, signature, what }: Signature,
  { keys, identity }: Asked,
  image: { readonly reference: Reference; readonly digest: Digest },
): AcceptedSignature | string {
  const signer = keys.find((key) => isSignedBy(key, payload, signature))
  if (signer === undefined) return `${what} was made by none of the keys`
  let claim: Claim
  try {
    claim = parsePayload(payload, what)
  } catch (error) {
    return describe(error)
  }
  if (claim.digest !== image.digest) return `${what} is for ${claim.digest}`
  if (!matchesIdentity(identity, image.reference, claim.identity)) {
    return `${what} is for ${JSON.stringify(claim.identity.slice(0, 300))}, which ${identity.type} does not accept`
  }
  return { ...claim, key: signer.name }
}

/** All that the registry holds for this digest: under cosign's tag, and as referrers. */
async function signaturesOf(
  repository: Repository,
  digest: Digest,
  reasons: Set<string>,
  signal: AbortSignal | undefined,
): Promise<Signature[]> {
  const tag = `${algorithmOf(digest)}-${hexOf(digest)}.sig`
  const manifests: FetchedManifest[] = []
  const tagged = await orMissing(repository.manifest({ tag }, signal))
  if (tagged !== undefined) manifests.push(tagged)
  for (const referrer of await repository.referrers(digest, undefined, signal)) {
    if (BUNDLE_ARTIFACT.test(referrer.artifactType ?? '')) {
      reasons.add(
        `its signature ${referrer.digest} is a bundle of cosign 3, which berth cannot verify (sign with --new-bundle-format=false)`,
      )
    }
    if (referrer.artifactType !== SIGNATURE_ARTIFACT) continue
    if (manifests.length >= SIGNATURES_MAX) throw tooMany(digest)
    manifests.push(await repository.manifest({ digest: referrer.digest }, signal))
  }
  const found: Signature[] = []
  for (const { bytes, mediaType, digest: of } of manifests) {
    const document = parseDocument(bytes, mediaType, `the signatures of ${digest}`)
    if (document.kind !== 'manifest') continue
    for (const [i, layer] of document.manifest.layers.entries()) {
      if (found.length >= SIGNATURES_MAX) throw tooMany(digest)
      const what = `signature ${i + 1} of ${of}`
      const one = await signatureOf(repository, layer, what, signal)
      if (typeof one === 'string') reasons.add(one)
      else found.push(one)
    }
  }
  return found
}

function tooMany(digest: Digest): Fault {
  return new Fault(
    'RESOURCE_EXHAUSTED',
    `${digest} has more than ${SIGNATURES_MAX} signatures at its registry`,
  )
}

async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof Fault && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}

/** A layer of a signature's manifest: the payload is the blob, the signature its annotation. Or why it is none. */
async function signatureOf(
  repository: Repository,
  layer: Descriptor,
  what: string,
  signal: AbortSignal | undefined,
): Promise<Signature | string> {
  if (layer.mediaType !== SIMPLE_SIGNING) return `${what} is of type ${layer.mediaType}`
  const base64 = new Map(Object.entries(layer.annotations ?? {})).get(SIGNATURE_ANNOTATION)
  if (base64 === undefined || base64.length > SIGNATURE_LENGTH_MAX) {
    return `${what} has no ${SIGNATURE_ANNOTATION}`
  }
  if (layer.size > PAYLOAD_BYTES_MAX) {
    return `${what} has ${layer.size} bytes; the limit is ${PAYLOAD_BYTES_MAX}`
  }
  const payload =
    embeddedData(layer, what) ?? (await repository.smallBlob(layer, PAYLOAD_BYTES_MAX, signal))
  return { payload, signature: Buffer.from(base64, 'base64'), what }
}
