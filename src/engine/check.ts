import { describe } from '../base/fault.ts'
import { type Checked, checkStore, type Damage, debrisOf } from '../image/check.ts'
import { type Repair, repairStore } from '../image/repair.ts'
import type { Digest } from '../spec/image.ts'
import { containerRoots, openImages, tellOfImage } from './images.ts'
import type { Engine } from './open.ts'
import { removeDebris } from './recover.ts'
import type { Progress } from './types.ts'

export interface EngineCheck extends Omit<Checked, 'damage'> {
  /** What was found, with what was done about it where a repair was asked for. */
  readonly damage: readonly (Repair | { readonly damage: Damage; readonly isRepaired: false })[]
}

/**
 * Checks the whole store, and repairs it where that is asked for: from what is here, and with `pull` also by fetching images again that
 * have a name; what killed commands have left of containers goes then, too. What cannot be read at all throws (DATA_LOSS of a container's record, which says what it needs).
 */
export async function checkEngine(
  engine: Engine,
  options: {
    repair: boolean
    pull: boolean
    progress?: Progress | undefined
    signal?: AbortSignal | undefined
  },
): Promise<EngineCheck> {
  const store = openImages(engine)
  const { signal, progress } = options
  if (options.repair) await removeDebris(engine)
  const roots = () => containerRoots(engine)
  const { damage, ...checked } = await checkStore(store, { roots, progress, signal })
  if (!options.repair || (damage.length === 0 && checked.debris === 0)) {
    return { ...checked, damage: damage.map((each) => ({ damage: each, isRepaired: false })) }
  }
  const repairs = await repairStore(store, damage, { roots, signal })
  const debris = debrisOf(store)
  if (!options.pull) return { ...checked, debris, damage: repairs }
  const done: Repair[] = []
  for (const repair of repairs) {
    done.push(repair.isRepaired ? repair : await pullFor(engine, repair, options))
  }
  return { ...checked, debris, damage: done }
}

/** Fetches what the damage has cost, by the name of an image that needs it. */
async function pullFor(
  engine: Engine,
  repair: Repair,
  options: { progress?: Progress | undefined; signal?: AbortSignal | undefined },
): Promise<Repair> {
  const store = openImages(engine)
  const { damage } = repair
  const isMeant = (image: { id: Digest; diffIds: readonly string[] }): boolean => {
    if (damage.kind === 'image') return image.id === damage.id
    if (damage.kind === 'container') return image.diffIds.includes(damage.diffId)
    return damage.kind === 'layer' && image.diffIds.includes(`sha256:${damage.hex}`)
  }
  // By digest where there is one: a tag may be another image by now.
  const image = store.catalog.list(() => undefined).find(isMeant)
  const name = image?.repoDigests[0] ?? image?.names[0]
  if (image === undefined || name === undefined) return repair
  try {
    const { pullImage } = await import('../image/pull.ts')
    const pulled = await pullImage(store, name, options)
    tellOfImage(engine, 'pull', pulled.id, name)
    const isHere = image.diffIds.every((diffId) => store.layers.has(diffId))
    if (pulled.id !== image.id || !isHere) return repair
    return { damage, isRepaired: true, outcome: `pulled ${name} again` }
  } catch (error) {
    return { ...repair, outcome: `${repair.outcome}; pull of ${name}: ${describe(error)}` }
  }
}
