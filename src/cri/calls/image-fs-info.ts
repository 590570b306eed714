import { imageFsInfo as usage } from '../../pod/images.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function imageFsInfo({ node }: Daemon): Promise<Reply<cri.ImageFsInfoResponse>> {
  const { images, containers } = await usage(node.engine)
  return { imageFilesystems: [filesystem(images)], containerFilesystems: [filesystem(containers)] }
}

type Usage = Awaited<ReturnType<typeof usage>>['images']

const filesystem = (of: Usage): Reply<cri.FilesystemUsage> => ({
  timestamp: String(of.timestampNs),
  fsId: { mountpoint: of.mountpoint },
  usedBytes: { value: String(of.usedBytes) },
  inodesUsed: { value: String(of.inodesUsed) },
})
