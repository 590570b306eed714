/** What is done to a store while somebody kills the doer or cuts the power. */
import { composeImage, layersOf, makeLayer } from '../../src/image/compose.ts'
import {
  collect,
  holdContent,
  type ImageStore,
  importImage,
  inspectImage,
  loadArchive,
  pruneImages,
  pullImage,
  removeImage,
  tagImage,
} from '../../src/image/index.ts'
import { tar } from './images.ts'

export type Work = 'pull' | 'load' | 'import' | 'commit' | 'tag' | 'rmi' | 'gc' | 'prune'

const ROOTS = () => ({ images: [], layers: [], chains: [] })

async function* chunks(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** Does one work, with an image's name (or, of a load, the layout's path). */
export async function workOn(store: ImageStore, work: Work, name: string): Promise<unknown> {
  switch (work) {
    case 'pull':
      return pullImage(store, name)
    case 'load':
      return loadArchive(store, name)
    case 'import': {
      const archive = tar([{ name: 'imported', content: name }])
      const source = chunks(archive)
      return importImage(store, source, {
        name: 'q.io/imported:1',
        created: '2020-01-01T00:00:00Z',
      })
    }
    // What a commit does to the store; the upper directory it packs is another matter.
    case 'commit': {
      using _hold = await holdContent(store)
      const { image, config } = inspectImage(store, name)
      const archive = tar([{ name: 'committed', content: 'x'.repeat(100_000) }])
      const layer = await makeLayer(store, chunks(archive))
      const layers = [...layersOf(store, image), layer]
      const diffIds = layers.map(({ diffId }) => diffId)
      const made = { ...config, rootfs: { type: 'layers', diff_ids: diffIds } }
      return composeImage(store, { config: made, layers, names: ['q.io/committed:1'] })
    }
    case 'tag':
      return tagImage(store, name, 'q.io/tagged:1')
    case 'rmi':
      return removeImage(store, name, { force: true, users: () => [], roots: ROOTS })
    case 'gc':
      return collect(store, { roots: ROOTS, wait: true, partials: true })
    case 'prune':
      return pruneImages(store, { all: true, roots: ROOTS })
  }
}
