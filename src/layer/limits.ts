const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

/** What one layer may ask of this host. All of it is claimed by the archive, so none of it is believed. */
export interface LayerLimits {
  /** Entries of the archive. */
  readonly entries: number
  /** Bytes of one PAX header, and of one GNU long name. */
  readonly headerBytes: number
  /** Bytes of an entry's path, and of a link's target. PATH_MAX of Linux. */
  readonly pathBytes: number
  /** Directories above an entry. */
  readonly depth: number
  readonly xattrs: number
  readonly xattrNameBytes: number
  readonly xattrValueBytes: number
  /** Pieces of data in one sparse file. */
  readonly sparsePieces: number
  /** Size of one file, holes included. */
  readonly fileBytes: number
  /** Bytes of the archive after decompression. */
  readonly totalBytes: number
  /** Decompressed bytes for one compressed byte, once more than `expansionFreeBytes` came out. */
  readonly expansion: number
  readonly expansionFreeBytes: number
  /** Window of a zstd frame: what its decoder must keep in memory. 128 MiB is the zstd program's own bound. */
  readonly windowBytes: number
}

export const LAYER_LIMITS: LayerLimits = {
  entries: 4_000_000,
  headerBytes: MIB,
  pathBytes: 4096,
  depth: 1024,
  // XATTR_NAME_MAX and XATTR_SIZE_MAX of Linux.
  xattrs: 256,
  xattrNameBytes: 255,
  xattrValueBytes: 64 * KIB,
  sparsePieces: 256 * KIB,
  // The largest file of ext4 with 4 KiB blocks.
  fileBytes: 16 * 1024 * GIB,
  totalBytes: 256 * GIB,
  // Honest layers reach about 20; deflate ends at 1032.
  expansion: 200,
  expansionFreeBytes: GIB,
  windowBytes: 128 * MIB,
}
