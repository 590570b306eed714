/**
 * Tar streams into layers, and layers into overlays.
 *
 * A *layer* is the unpacked archive of one diff, kept once for all images, by its diff id. A *chain* is the layers of one image as overlayfs
 * stacks them, topmost first. Names in archives and trees are bytes (`ByteName`). Nothing that an archive or a tree says is trusted: every
 * path is walked by fd below its root.
 */
export { type ByteName, byteName, nameBytes, printable, textName } from './bytes.ts'
export { type Chain, chainId, prepareChain, prepareUpper } from './chain.ts'
export { decompress, detectCompression } from './compress.ts'
export { type Change, layerChanges } from './diff.ts'
export { LAYER_LIMITS, type LayerLimits } from './limits.ts'
export type { Attributes } from './lower.ts'
export {
  type ExtractOptions,
  extractInto,
  Packer,
  type PackOptions,
  packTree,
} from './pack.ts'
export { packUpper, type UpperOptions } from './pack-layer.ts'
export { type LayerInfo, LayerStore, treeUsage } from './store.ts'
export { type TarEntry, TarReader, type TarSink } from './tar-reader.ts'
export { END_OF_ARCHIVE, encodeEntry, padding, type WrittenEntry } from './tar-writer.ts'
export { type UnpackOptions, unpackLayer } from './unpack.ts'
