import type { UpperOptions } from '../layer/index.ts'
import { innerIds } from './inner-ids.ts'
import type { Engine } from './open.ts'
import { readConfig } from './record.ts'
import type { ContainerRecord } from './types.ts'

/** What a container has changed in its image, as `layerChanges` and `packUpper` take it. */
export function changesOf(
  engine: Engine,
  record: Pick<ContainerRecord, 'id' | 'lower'>,
): UpperOptions {
  const spec = readConfig(engine, record.id)
  const ids = innerIds(spec)
  return {
    upper: engine.at.upper(record.id),
    lower: record.lower.map((path) => `${engine.root}/${path}`),
    mounted: (spec.mounts ?? []).map(({ destination }) => destination),
    ...(ids === undefined ? {} : { alter: (_path, is) => ids(is) }),
  }
}
