import { findContainer } from './find.ts'
import type { Engine } from './open.ts'

/** The CRI-format log's path; undefined when the container's log driver keeps none. */
export async function containerLog(
  engine: Engine,
  ref: string,
): Promise<{ path: string; terminal: boolean } | undefined> {
  const { record } = await findContainer(engine, ref)
  if (record.options.logDriver === 'none') return
  return { path: engine.at.log(record.id), terminal: record.options.terminal }
}
