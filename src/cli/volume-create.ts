import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import type { Context } from './context.ts'
import { examples, option, refuse } from './output.ts'
import { parseLabel } from './parse/environment.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('[name]', 'a random one without')
    .addOption(option('-l, --label <key=value>', 'label', parseLabel, 'many'))
    .addHelpText(
      'after',
      examples('berth volume create data', 'berth run --rm -v data:/data hello'),
    )
    .action(async (name: string | undefined, { label }: { label: [string, string][] }) => {
      const { api, engine } = await context.open(() => import('../engine/volume.ts'))
      const volume = await api.createVolume(engine, {
        name: name ?? randomBytes(32).toString('hex'),
        labels: Object.fromEntries(label),
      })
      await context.print(`${volume.name}\n`)
    })
  refuse(command, {
    '-d, --driver': 'volumes are directories of this machine',
    '-o, --opt': 'volumes are directories of this machine',
  })
}
