/** Signatures as cosign makes them with a key: what is signed, by whom, and whether it holds. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import type { Digest } from '../spec/image.ts'
import { parseDigest } from './digest.ts'
import { bad, type Fields, object, parseObject, text } from './json.ts'

/** A payload names one digest and one reference: cosign's have 250 bytes. */
export const PAYLOAD_BYTES_MAX = 64 * 1024
const KEY_BYTES_MAX = 64 * 1024
/** Shorter RSA keys can be broken (NIST SP 800-131A). */
const RSA_BITS_MIN = 2048
const CURVES: readonly unknown[] = ['prime256v1', 'secp384r1', 'secp521r1']
const PAYLOAD_TYPES: readonly unknown[] = [
  'cosign container image signature',
  // What cosign writes in its place since 2.5.
  'https://sigstore.dev/cosign/sign/v1',
]

export interface PublicKey {
  /** For messages: the file, or that it is the policy's own. */
  readonly name: string
  readonly key: KeyObject
}

export function readPublicKey(
  source: { readonly file: string } | { readonly pem: string },
  what: string,
): PublicKey {
  if ('pem' in source) return parsePublicKey(source.pem, `a key in ${what}`)
  const name = `the key ${source.file}`
  let pem: string
  try {
    if (statSync(source.file).size > KEY_BYTES_MAX) throw new Error('it is too long')
    pem = readFileSync(source.file, 'latin1')
  } catch (error) {
    throw new Fault('FAILED_PRECONDITION', `cannot read ${name} of ${what}`, { cause: error })
  }
  return parsePublicKey(pem, name)
}

/** FAILED_PRECONDITION for what is no public key, or of a kind that cosign does not sign with. */
export function parsePublicKey(pem: string, name: string): PublicKey {
  const refuse = (why: string, cause?: unknown): Fault =>
    new Fault('FAILED_PRECONDITION', `${name} is refused: ${why}`, { cause })
  // A private key, or a certificate, would be taken too, and the first is where it should not be.
  if (!/^\s*-----BEGIN (?:RSA )?PUBLIC KEY-----/.test(pem)) {
    throw refuse('it is no public key in PEM ("BEGIN PUBLIC KEY")')
  }
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch (error) {
    throw refuse('it cannot be decoded', error)
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'ed25519') return { name, key }
  if (type === 'ec' && CURVES.includes(details?.namedCurve)) return { name, key }
  if (type === 'rsa') {
    const bits = details?.modulusLength ?? 0
    if (bits >= RSA_BITS_MIN) return { name, key }
    throw refuse(`RSA of ${bits} bits is too short`)
  }
  throw refuse(`${details?.namedCurve ?? type} is none of ECDSA P-256 to P-521, Ed25519 and RSA`)
}

/** Whether the key made the signature of these bytes: ECDSA in DER and RSA (PKCS #1 v1.5) over SHA-256, Ed25519 over the bytes themselves. */
export function isSignedBy(
  { key }: PublicKey,
  payload: Uint8Array,
  signature: Uint8Array,
): boolean {
  return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', payload, key, signature)
}

/** What a signature vouches for. */
export interface Claim {
  /** Of the manifest or index. */
  readonly digest: Digest
  /** The image's name as the signer knew it; nothing has checked its form. */
  readonly identity: string
}

/**
 * Reads a payload of which the signature holds ("simple signing", containers/image's atomic-signature.md). A field beside the known ones could say that
 * it is to be read otherwise, so it is refused; `optional` is the signer's own.
 */
export function parsePayload(payload: Uint8Array, what: string): Claim {
  const fields = parseObject(payload, PAYLOAD_BYTES_MAX, what)
  onlyKeys(fields, ['critical', 'optional'], what)
  const critical = part(fields, 'critical', what)
  onlyKeys(critical, ['type', 'image', 'identity'], what)
  const type = text(critical, 'type', what)
  if (!PAYLOAD_TYPES.includes(type)) throw bad(what, `its type is ${JSON.stringify(type)}`)
  const image = part(critical, 'image', what)
  onlyKeys(image, ['docker-manifest-digest'], what)
  const identity = part(critical, 'identity', what)
  onlyKeys(identity, ['docker-reference'], what)
  return {
    digest: parseDigest(image['docker-manifest-digest'], what),
    identity: text(identity, 'docker-reference', what) ?? '',
  }
}

function part(fields: Fields, name: string, what: string): Fields {
  const value = object(fields, name, what)
  if (value === undefined) throw bad(what, `it has no ${name}`)
  return value
}

function onlyKeys(fields: Fields, known: readonly string[], what: string): void {
  const unknown = Object.keys(fields).find((key) => !known.includes(key))
  if (unknown !== undefined) throw bad(what, `${JSON.stringify(unknown)} is not known there`)
}
