import { type ImageView, listImages, pinnedBy } from '../../pod/images.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import { inParts } from '../filter.ts'
import type { Reply } from '../wire.ts'

export async function list(
  daemon: Daemon,
  { filter }: cri.ListImagesRequest,
): Promise<Reply<cri.ListImagesResponse>> {
  return { images: find(daemon, filter).map(imageOf) }
}

export async function* streamImages(
  daemon: Daemon,
  { filter }: cri.StreamImagesRequest,
): AsyncIterable<Reply<cri.StreamImagesResponse>> {
  for (const part of inParts(find(daemon, filter))) yield { images: part.map(imageOf) }
}

function find({ node }: Daemon, filter: cri.ImageFilter | null): ImageView[] {
  return listImages(node.engine, {
    image: filter?.image?.image ?? '',
    pinned: pinnedBy(node.settings.pinnedImages),
  })
}

export function imageOf(view: ImageView): Reply<cri.Image> {
  return {
    id: view.id,
    repoTags: [...view.repoTags],
    repoDigests: [...view.repoDigests],
    size: String(view.sizeBytes),
    ...(view.uid === undefined ? {} : { uid: { value: String(view.uid) } }),
    username: view.username,
    pinned: view.pinned,
    spec: { image: view.id },
  }
}
