import { Fault } from '../../base/fault.ts'
import { isRegistryUnavailable, pullImage } from '../../pod/images.ts'
import type * as cri from '../../spec/cri.ts'
import { missing } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function pull(
  { node }: Daemon,
  { image, auth }: cri.PullImageRequest,
  signal: AbortSignal,
): Promise<Reply<cri.PullImageResponse>> {
  if (!image || image.image === '') throw missing('image.image')
  try {
    const id = await pullImage(node.engine, image.image, {
      auth: auth ?? undefined,
      signal,
      stallMs: node.settings.pullProgressTimeoutMs,
      keepBlobs: node.settings.keepBlobs,
      registries: {
        layersAtOnce: node.settings.layersAtOnce,
        policyFile: node.settings.signaturePolicy,
      },
    })
    return { imageRef: id }
  } catch (error) {
    // The word by which the kubelet tells this from a wrong name or login.
    if (isRegistryUnavailable(error))
      throw new Fault('UNAVAILABLE', 'RegistryUnavailable', { cause: error })
    throw error
  }
}
