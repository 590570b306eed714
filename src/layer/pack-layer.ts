import { openSync } from 'node:fs'
import { binding } from '../kernel/binding.ts'
import { AT_EMPTY_PATH, O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import type { ByteName } from './bytes.ts'
import { attributesOf, Layers } from './lower.ts'
import { madePlaces, sameAttributes } from './made-places.ts'
import { Packer, type PackOptions } from './pack.ts'
import { END_OF_ARCHIVE } from './tar-writer.ts'

export interface UpperOptions {
  /** An overlay's directory of changes. */
  readonly upper: string
  /** What it lies on, topmost first. */
  readonly lower: readonly string[]
  /** Absolute paths in the container that berth has mounted on: what it made there for that is no change. */
  readonly mounted: readonly string[]
  /** As in PackOptions: for an upper directory with the ids of a user namespace. */
  readonly alter?: PackOptions['alter']
}

/**
 * An overlay's upper directory as the archive of a layer: unpacked over the lower ones it gives what the overlay shows. What overlayfs means for itself
 * alone stays out. The root has an entry where it differs from the lower layers' root in more than its time.
 */
export async function* packUpper(options: UpperOptions): AsyncGenerator<Buffer> {
  const alter: NonNullable<PackOptions['alter']> = options.alter ?? ((_path, is) => is)
  using lower = new Layers(options.lower)
  const omitted: ReadonlySet<ByteName> = madePlaces({ ...options, alter }, lower)
  const isBelow = (path: ByteName): boolean => lower.merged(path.split('/')) !== undefined
  const packer = new Packer({ alter, whiteouts: true }, { omitted, isBelow })
  const root = new Fd(openSync(options.upper, O_RDONLY | O_DIRECTORY))
  const status = binding.statx(root.number, '', AT_EMPTY_PATH)
  const is = alter('', attributesOf(status, root.number))
  const below = lower.attributes([])
  if (below && sameAttributes(is, below)) {
    using dir = root
    yield* packer.content(dir.number, '', 0)
  } else yield* packer.directory(root, '', 0)
  yield END_OF_ARCHIVE
}
