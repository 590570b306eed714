import type { Digest } from '../spec/image.ts'
import { openRepository } from './connect.ts'
import { parsePlatform } from './platform.ts'
import type { Chosen } from './policy.ts'
import { choosePolicy, type PullOptions, resolveImage } from './pull.ts'
import { formatReference, parseReference } from './reference.ts'
import type { AcceptedSignature } from './signatures.ts'
import type { ImageStore } from './store.ts'

export interface Verified {
  /** The full name. */
  readonly name: string
  /** What the name stands for at its registry now: of the index where there is one. */
  readonly digest: Digest
  /** One for each requirement; none where the policy asks for none. */
  readonly signatures: readonly AcceptedSignature[]
}

/**
 * Whether an image at its registry would be taken, as far as signatures decide: by the policy, or with `key` signed by that key for this repository, whatever
 * the tag, as `cosign verify --key` asks. Nothing of the image but its manifests is fetched, nothing is stored.
 */
export async function verifyImage(
  store: ImageStore,
  name: string,
  options: Omit<PullOptions, 'progress' | 'layersAtOnce' | 'blobs'> & {
    key?: string | undefined
  } = {},
): Promise<Verified> {
  const { signal, key } = options
  const reference = parseReference(name)
  const wanted = options.platform === undefined ? undefined : parsePlatform(options.platform)
  const chosen = key === undefined ? choosePolicy(reference, options.policyFile) : signedByKey(key)
  using repository = openRepository(reference, options, store.warn)
  const asked = { reference, wanted, name, chosen, signal }
  const { top, signatures } = await resolveImage(store, repository, asked)
  return { name: formatReference(reference), digest: top, signatures }
}

function signedByKey(file: string): Chosen {
  return {
    requirements: [
      { type: 'sigstoreSigned', keys: [{ file }], identity: { type: 'matchRepository' } },
    ],
    scope: '--key',
    file: 'the command line',
  }
}
