import type { Command } from 'commander'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { formatOption, printJson } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<image...>', 'names or ids')
    .addOption(formatOption('json'))
    .action(async (names: string[]) => {
      const found: unknown[] = []
      for (const name of names) found.push(await inspectImage(context, name))
      await printJson(found)
    })
}

/** An image's record with its configuration, in the words of docker. NOT_FOUND. */
export async function inspectImage(context: Context, name: string): Promise<unknown> {
  const { store } = await openImages(context)
  const { id } = store.catalog.resolve(name)
  const image = store.catalog.get(id)
  const { parseConfig, CONFIG_BYTES_MAX } = await import('../image/manifest.ts')
  const bytes = store.blobs.read(image.id, CONFIG_BYTES_MAX)
  const config = parseConfig(bytes, name)
  return { image, config }
}
