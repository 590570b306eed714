import type { Command } from 'commander'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name or id')
    .argument('<name...>', 'further names for it')
    .addHelpText('after', examples('berth tag hello registry.example/team/hello:1.0'))
    .action(async (image: string, names: string[]) => {
      const { store, changed } = await openImages(context)
      const [{ tagImage }, { tagName }] = await Promise.all([
        import('../image/inspect.ts'),
        import('../image/load.ts'),
      ])
      // All are looked at before the first is given.
      for (const name of names) tagName(name)
      for (const name of names) {
        const full = await tagImage(store, image, name)
        await changed('tag', store.catalog.resolve(full).id, full)
      }
    })
}
