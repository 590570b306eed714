import { Readable } from 'node:stream'
import { Fault } from '../base/fault.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import { type Attributes, type ByteName, packTree } from '../layer/index.ts'
import { Layers } from '../layer/lower.ts'
import { changesOf } from './changes.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import type { Engine } from './open.ts'
import { readRecord } from './record.ts'
import { about } from './start.ts'
import type { ContainerRecord } from './types.ts'

/**
 * The container's whole root as a tar, running or not, without what is mounted in it (docker's rule). Of one that runs it is no moment: what changes while it
 * is read is in it as it was found. A removal does not wait for who reads; FAILED_PRECONDITION then, at the latest in place of the archive's end.
 */
export async function exportContainer(engine: Engine, ref: string): Promise<Readable> {
  const { record } = await findContainer(engine, ref)
  emit(engine, about(record, 'export'))
  return Readable.from(wholeArchive(engine, record), { objectMode: false })
}

async function* wholeArchive(engine: Engine, record: ContainerRecord): AsyncGenerator<Buffer> {
  try {
    yield* rootArchive(changesOf(engine, record))
  } catch (error) {
    throw removedMeanwhile(engine, record) ?? error
  }
  const removed = removedMeanwhile(engine, record)
  if (removed) throw removed
}

/** The record goes before any file of it, and keeps its layers. */
function removedMeanwhile(engine: Engine, { id, name }: ContainerRecord): Fault | undefined {
  if (readRecord(engine, id)) return undefined
  const text = `container ${name} was removed while it was exported: the archive is not whole`
  return new Fault('FAILED_PRECONDITION', text)
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
