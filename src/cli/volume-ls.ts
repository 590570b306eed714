import type { Command } from 'commander'
import type { Volume } from '../engine/types.ts'
import type { Context } from './context.ts'
import { type Format, formatOption, printJson } from './output.ts'
import { age, table } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .option('-q, --quiet', 'names only')
    .addOption(formatOption())
    .action(async ({ quiet, format }: { quiet?: true; format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/volume.ts'))
      const volumes = await api.listVolumes(engine)
      if (format === 'json') return printJson(context, volumes)
      if (quiet) return context.print(volumes.map(({ name }) => `${name}\n`).join(''))
      const nowMs = Date.now()
      await context.print(
        table<Volume>(
          [
            { title: 'VOLUME', cell: (v) => v.name },
            { title: 'CREATED', cell: (v) => age(v.createdNs, nowMs) },
            { title: 'PATH', cell: (v) => v.path },
          ],
          volumes,
        ),
      )
    })
}
