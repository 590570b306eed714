import { imageStatus, pinnedBy } from '../../pod/images.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'
import { imageOf } from './list-images.ts'

/** An image that is not here is an empty answer, not an error. */
export async function statusOfImage(
  { node }: Daemon,
  { image, verbose }: cri.ImageStatusRequest,
): Promise<Reply<cri.ImageStatusResponse>> {
  const found = imageStatus(node.engine, image?.image ?? '', {
    verbose,
    pinned: pinnedBy(node.settings.pinnedImages),
  })
  if (!found) return {}
  const view = imageOf(found.image)
  return {
    image: { ...view, spec: { ...view.spec, annotations: { ...found.annotations } } },
    info: { ...found.info },
  }
}
