import { removeImage } from '../../pod/images.ts'
import type * as cri from '../../spec/cri.ts'
import { missing } from '../check.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function removeOne(
  { node }: Daemon,
  { image }: cri.RemoveImageRequest,
): Promise<Reply<cri.RemoveImageResponse>> {
  if (!image || image.image === '') throw missing('image.image')
  await removeImage(node.engine, image.image)
  return {}
}
