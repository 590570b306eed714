import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name or id')
    .argument('<name...>', 'further names for it')
    .addHelpText('after', examples('berth tag hello registry.example/team/hello:1.0'))
    .action(async (image: string, names: string[]) => {
      const { store } = await openImages(context)
      const { formatReference, parseReference } = await import('../image/reference.ts')
      const full = names.map((name) => {
        const reference = parseReference(name)
        if (reference.digest === undefined) return formatReference(reference)
        throw new Fault(
          'INVALID_ARGUMENT',
          `${name} holds a digest: a new name is a name and a tag`,
        )
      })
      const { id } = store.catalog.resolve(image)
      for (const name of full) await store.catalog.tag(id, name)
    })
}
