import { createHash, type Hash } from 'node:crypto'
import { Fault } from '../base/fault.ts'
import type { Digest } from '../spec/image.ts'

/** Hexadecimal digits of each algorithm that berth verifies (image-spec, "Registered algorithms"). */
const HEX_LENGTH = { sha256: 64, sha512: 128 } as const

export type Algorithm = keyof typeof HEX_LENGTH

export const ALGORITHMS: readonly Algorithm[] = ['sha256', 'sha512']

function isAlgorithm(text: string): text is Algorithm {
  return Object.hasOwn(HEX_LENGTH, text)
}

/** The checked digest, or undefined where the text is none that berth can verify. */
export function digestIn(text: string): Digest | undefined {
  const colon = text.indexOf(':')
  const algorithm = text.slice(0, Math.max(colon, 0))
  if (!isAlgorithm(algorithm)) return undefined
  const hex = text.slice(colon + 1)
  // Lower case only (image-spec, "Digests"): two spellings of one digest would be two names in the store.
  if (hex.length !== HEX_LENGTH[algorithm] || !/^[0-9a-f]+$/.test(hex)) return undefined
  return text as Digest
}

/** INVALID_ARGUMENT naming `what` where the text is no sha256 or sha512 digest. */
export function parseDigest(text: unknown, what: string): Digest {
  const digest = typeof text === 'string' ? digestIn(text) : undefined
  if (digest !== undefined) return digest
  const shown = typeof text === 'string' ? JSON.stringify(text.slice(0, 150)) : typeof text
  throw new Fault(
    'INVALID_ARGUMENT',
    `${what} has no valid digest: ${shown} is not sha256: or sha512: followed by its lower-case hexadecimal digits`,
  )
}

export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** The hexadecimal part. */
export function hexOf(digest: Digest): string {
  return digest.slice(7)
}

export function hasherOf(digest: Digest): Hash {
  return createHash(algorithmOf(digest))
}

export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return finish(createHash(algorithm).update(bytes), algorithm)
}

/** The digest of all that the hash was fed. */
export function finish(hash: Hash, algorithm: Algorithm): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest
}

/** DATA_LOSS where the bytes are not those of the digest. */
export function verifyBytes(bytes: Uint8Array, digest: Digest, what: string): void {
  const actual = digestOf(bytes, algorithmOf(digest))
  if (actual !== digest) throw mismatch(what, digest, actual)
}

export function mismatch(what: string, expected: Digest, actual: Digest): Fault {
  return new Fault(
    'DATA_LOSS',
    `${what} does not match its digest: expected ${expected}, got ${actual}`,
  )
}
