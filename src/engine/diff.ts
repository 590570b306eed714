import { layerChanges } from '../layer/index.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'
import { readConfig } from './record.ts'

/** What the container has changed in its image: A added, C changed, D deleted. Places that only berth made to mount on are left out. */
export async function diffContainer(
  engine: Engine,
  ref: string,
): Promise<{ kind: 'A' | 'C' | 'D'; path: string }[]> {
  const { record } = await findContainer(engine, ref)
  const lower = record.lower.map((path) => `${engine.root}/${path}`)
  const mounted = new Set(
    (readConfig(engine, record.id).mounts ?? []).map((mount) => mount.destination),
  )
  const changes = layerChanges(lower, engine.at.upper(record.id)).filter(
    ({ kind, path }) => kind === 'D' || !mounted.has(path),
  )
  // Names are bytes, one character each; people read UTF-8.
  return changes.map(({ kind, path }) => ({
    kind,
    path: Buffer.from(path, 'latin1').toString('utf8'),
  }))
}
