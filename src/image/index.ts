/**
 * A name, an archive or a registry into verified blobs and unpacked layers, below ROOT/images (layers: ROOT/layers).
 *
 * Words: an *image* is a configuration; its *id* is the configuration's digest, everywhere. A *name* is a full reference in the
 * catalog. A *blob* is bytes by digest. To *hold* is to keep the collector away.
 *
 * Invariants: what has a name in the store has been verified and is on the disk; blobs and layers come before the image's record, the
 * record before its names; nothing is removed while somebody holds. Commands that want a quick start import the single files.
 */
export type { Credentials } from './auth.ts'
export type { Image, ImageRecord } from './catalog.ts'
export { type Checked, checkStore, type Damage } from './check.ts'
export {
  type Collected,
  collect,
  pruneImages,
  type Removed,
  type Roots,
  removeImage,
} from './collect.ts'
export { composeImage, type ImageLayer, layersOf, makeLayer } from './compose.ts'
export { dropBlobs } from './drop-blobs.ts'
export { type ImportOptions, importImage } from './import.ts'
export { type HistoryRow, imageHistory, inspectImage, readConfig, tagImage } from './inspect.ts'
export { type LayerBytes, layerBytes, withLayers } from './layer-bytes.ts'
export { type Loaded, type LoadOptions, loadArchive } from './load.ts'
export { hostPlatform, parsePlatform } from './platform.ts'
export { type Pulled, type PullOptions, pullImage } from './pull.ts'
export { type Pushed, pushImage } from './push.ts'
export type { PushOptions } from './push-blob.ts'
export { familiarName, formatReference, parseReference, type Reference } from './reference.ts'
export { type Repair, repairStore } from './repair.ts'
export { archiveOf, gatherImages, type SavedFile } from './save.ts'
export {
  collectionNote,
  type Hold,
  holdContent,
  type ImageStore,
  openStore,
  type Progress,
  shortId,
} from './store.ts'
