import type { Command } from 'commander'
import type { Context } from './context.ts'
import { examples } from './output.ts'
import { definePrune } from './prune.ts'

export function define(command: Command, context: Context): void {
  command
    .option('-a, --all', 'also images with a name that no container uses')
    .option('--volumes', 'also volumes that no container uses, with their data')
    .addHelpText('after', examples('berth system prune', 'berth system prune -af --volumes'))
  definePrune(
    command,
    context,
    ({ all, volumes }) =>
      `This removes all stopped containers, all images ${all ? 'that no container uses' : 'without a name'}${volumes ? ', all volumes that no container uses' : ''} and what killed commands have left.`,
    ({ all, volumes }) => ({
      containers: true,
      images: true,
      allImages: all === true,
      volumes: volumes === true,
    }),
  )
}
