import { Readable } from 'node:stream'
import { overlayMount } from '../kernel/mount-api.ts'
import { type Attributes, type ByteName, packTree } from '../layer/index.ts'
import { Layers } from '../layer/lower.ts'
import { changesOf } from './changes.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'
import { about } from './start.ts'

/**
 * The container's whole root as a tar, running or not, without what is mounted in it (docker's rule). Of one that runs it is no moment: what changes while it
 * is read is in it as it was found.
 */
export async function exportContainer(engine: Engine, ref: string): Promise<Readable> {
  const { record } = await findContainer(engine, ref)
  emit(engine, about(record, 'export'))
  return Readable.from(rootArchive(changesOf(engine, record)), { objectMode: false })
}

async function* rootArchive({
  upper,
  lower,
  alter,
}: ReturnType<typeof changesOf>): AsyncGenerator<Buffer> {
  using root = overlayMount({ lower: [upper, ...lower] })
  using changed = new Layers([upper])
  // Only what is in the upper directory has ids of the container's namespace: the layers below are everybody's.
  const isChanged = (path: ByteName): boolean =>
    changed.look(0, path === '' ? [] : path.split('/')).status !== undefined
  const inner = (path: ByteName, is: Attributes): Attributes =>
    alter && isChanged(path) ? alter(path, is) : is
  yield* packTree({ rootFd: root.number, base: '', ...(alter ? { alter: inner } : {}) })
}
