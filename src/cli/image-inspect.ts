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
      await printJson(context, found)
    })
}

/** An image's record with its configuration, in the words of the OCI. NOT_FOUND. */
export async function inspectImage(context: Context, name: string): Promise<unknown> {
  const { store } = await openImages(context)
  const images = await import('../image/inspect.ts')
  return images.inspectImage(store, name)
}
