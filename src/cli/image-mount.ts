import type { Command } from 'commander'
import { type Context, forEach } from './context.ts'
import { openImages } from './image-store.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { shortId, table } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('[image...]', 'names or ids; without one the mounted images are listed')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nThe files of each image are mounted read-only, and where is printed.${examples('berth image mount debian', 'ls "$(berth image mount debian)"', 'berth image mount')}`,
    )
    .action(async (names: string[], { format }: { format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/image-mounts.ts'))
      if (names.length > 0) {
        if (format === 'json') {
          const mounts = []
          for (const name of names) mounts.push(await api.mountImage(engine, name))
          return printJson(
            context,
            mounts.map(({ imageId, path }) => ({ id: imageId, path })),
          )
        }
        return forEach(context, names, async (name) => (await api.mountImage(engine, name)).path)
      }
      const { store, familiar } = await openImages(context)
      const known = new Map(store.catalog.list(() => undefined).map((image) => [image.id, image]))
      const rows = (await api.listImageMounts(engine)).map(({ imageId, path }) => ({
        id: imageId,
        names: (known.get(imageId)?.names ?? []).map(familiar),
        path,
      }))
      if (format === 'json') return printJson(context, rows)
      await context.print(
        table<(typeof rows)[number]>(
          [
            { title: 'IMAGE ID', cell: ({ id }) => shortId(id) },
            { title: 'NAMES', cell: (row) => row.names.join(', ') || '<none>' },
            { title: 'PATH', cell: ({ path }) => path },
          ],
          rows,
        ),
      )
    })
}
