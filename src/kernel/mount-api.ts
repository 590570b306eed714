import { binding } from './binding.ts'
import { MOUNT_ATTR_RDONLY } from './constants.ts'
import { Fd } from './fd.ts'

export interface OverlayLayers {
  /** Host directories, topmost first; at least one. */
  readonly lower: readonly string[]
  /** Without upper and work the view is read-only. */
  readonly upper?: string
  readonly work?: string
  /** Further overlay options, each `key` or `key=value`. */
  readonly options?: readonly string[]
}

/** A directory or program in a read-only detached mount of its own, which goes with the descriptor. */
export function readOnlyMount(path: string): Fd {
  const tree = new Fd(binding.openTree(path, false))
  try {
    binding.mountSetattr(tree.number, MOUNT_ATTR_RDONLY, 0, false)
    return tree
  } catch (error) {
    tree.close()
    throw error
  }
}

/**
 * A detached mount of the layers: seen by nobody else, reached below /proc/self/fd/N, gone when the fd is closed. So looking into a
 * stopped container's root leaves nothing behind, however it ends.
 */
export function overlayMount(layers: OverlayLayers): Fd {
  const { lower, upper, work, options = [] } = layers
  const only = lower[0]
  // Overlayfs wants two directories where there is no upper; one layer alone is its own view.
  if (lower.length === 1 && only !== undefined && upper === undefined) return readOnlyMount(only)
  return new Fd(
    binding.overlayMount({
      lower,
      options,
      ...(upper === undefined ? {} : { upper }),
      ...(work === undefined ? {} : { work }),
    }),
  )
}
