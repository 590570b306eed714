import type { ImageStore } from '../image/store.ts'
import type { Context } from './context.ts'

/** The images of this berth, and how people write a full name. */
export async function openImages(context: Context): Promise<{
  store: ImageStore
  familiar: (name: string) => string
  /** For `berth events`, after a change; and what others wanted collected while we held the content is collected now. */
  changed: (
    action: 'pull' | 'push' | 'load' | 'import' | 'tag',
    id: string,
    name: string,
  ) => Promise<void>
}> {
  // Opening the engine makes the roots with their modes, and says what to do where that is not allowed.
  const { api, engine } = await context.open(async () => ({
    ...(await import('../image/store.ts')),
    ...(await import('../image/reference.ts')),
  }))
  return {
    store: api.openStore(engine.root, { warn: context.warn }),
    familiar: api.familiarName,
    changed: async (action, id, name) => {
      const { collectIfNoted, tellOfImage } = await import('../engine/images.ts')
      tellOfImage(engine, action, id, name)
      await collectIfNoted(engine)
    },
  }
}
