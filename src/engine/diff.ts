import { layerChanges } from '../layer/index.ts'
import { changesOf } from './changes.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'

/** What the container has changed in its image: A added, C changed, D deleted. Places that only berth made to mount on are left out. */
export async function diffContainer(
  engine: Engine,
  ref: string,
): Promise<{ kind: 'A' | 'C' | 'D'; path: string }[]> {
  const { record } = await findContainer(engine, ref)
  // Names are bytes, one character each; people read UTF-8.
  return layerChanges(changesOf(engine, record)).map(({ kind, path }) => ({
    kind,
    path: Buffer.from(path, 'latin1').toString('utf8'),
  }))
}
