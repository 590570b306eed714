import { Fault } from '../base/fault.ts'
import type { Image } from '../image/catalog.ts'
import type { ImageStore } from '../image/store.ts'
import type { Filter } from './filter.ts'
import { parseMoment, parseTimestamp } from './parse/time.ts'

/** What images are chosen by, besides their names: docker's keys. */
export const IMAGE_FILTERS = ['label', 'label!', 'before', 'since', 'until'] as const

/**
 * Whether an image is meant by all of the filters; those with other keys are not looked at. `before` and `since` compare with the creation of
 * an image that is here (NOT_FOUND where it is not), `until` with a moment. An image that does not say when it was made is older
 * than all.
 */
export async function imageFilter(
  store: ImageStore,
  filters: readonly Filter[],
): Promise<(image: Image) => boolean> {
  const tests: ((image: Image) => boolean)[] = []
  const { readConfig } = await import('../image/inspect.ts')
  for (const { key, value } of filters) {
    if (key === 'until') {
      const untilNs = parseMoment(value, Date.now())
      tests.push((image) => createdNs(image) < untilNs)
    } else if (key === 'before' || key === 'since') {
      const other = createdNs(store.catalog.get(store.catalog.resolve(value).id))
      tests.push((image) =>
        key === 'before' ? createdNs(image) < other : createdNs(image) > other,
      )
    } else if (key === 'label' || key === 'label!') {
      const [name = '', wanted] = value.split(/=(.*)/s)
      tests.push((image) => {
        const labels = new Map(Object.entries(readConfig(store, image.id).config?.Labels ?? {}))
        const has = wanted === undefined ? labels.has(name) : labels.get(name) === wanted
        return has === (key === 'label')
      })
    }
  }
  return (image) => tests.every((test) => isMeant(store, image, test))
}

/** An image that cannot be read is told and not chosen: nothing is removed on a guess. */
function isMeant(store: ImageStore, image: Image, test: (image: Image) => boolean): boolean {
  try {
    return test(image)
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    store.warn(error.message)
    return false
  }
}

function createdNs(image: Image): bigint {
  return parseTimestamp(image.created) ?? 0n
}
