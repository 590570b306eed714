import { describe } from '../base/fault.ts'
import { containerRoots, openImages } from '../engine/images.ts'
import type { Engine } from '../engine/open.ts'
import { collect } from '../image/collect.ts'
import { collectionNote } from '../image/store.ts'

interface Collection {
  readonly running: Promise<void>
  /** The one that begins after it, for who came meanwhile. */
  next: Promise<void> | undefined
  /** Whether one of those wants parts of blobs removed, too. */
  nextPartials: boolean
}

const collections = new Map<string, Collection>()

/**
 * Removes what no image and no container leads to, and resolves when a collection that began after this call has ended: any number of
 * callers at once wait for the same one or two. Where a pull or a create is at work it is left to whoever ends last. Never throws: what
 * the caller did is done, and the next collection takes what this one has left.
 */
export function collectSoon(
  engine: Engine,
  { partials }: { partials: boolean } = { partials: false },
): Promise<void> {
  const current = collections.get(engine.root)
  if (current === undefined) return start(engine, partials)
  current.nextPartials ||= partials
  current.next ??= current.running.then(() => start(engine, current.nextPartials))
  return current.next
}

function start(engine: Engine, partials: boolean): Promise<void> {
  const running = collectNow(engine, partials).finally(() => {
    if (collection.next === undefined) collections.delete(engine.root)
  })
  const collection: Collection = { running, next: undefined, nextPartials: false }
  collections.set(engine.root, collection)
  return running
}

async function collectNow(engine: Engine, partials: boolean): Promise<void> {
  try {
    const store = openImages(engine)
    await collect(store, { roots: () => containerRoots(engine), wait: false, partials })
  } catch (error) {
    engine.warn(`unused layers are not collected yet: ${describe(error)}`)
  }
}

/** The collection that others asked for while this process held the content. */
export async function collectIfWanted(engine: Engine): Promise<void> {
  if (collectionNote.isSet(openImages(engine))) await collectSoon(engine)
}
