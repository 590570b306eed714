import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { formatOption, printJson } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<volume...>', 'names')
    .addOption(formatOption('json'))
    .action(async (names: string[]) => {
      const { api, engine } = await context.open(() => import('../engine/volume.ts'))
      const volumes = await api.listVolumes(engine)
      await printJson(
        context,
        names.map((name) => {
          const volume = volumes.find((each) => each.name === name)
          if (volume) return volume
          throw new Fault('NOT_FOUND', `no volume is called ${name}`)
        }),
      )
    })
}
