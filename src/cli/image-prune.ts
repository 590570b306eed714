import type { Command } from 'commander'
import type { Context } from './context.ts'
import { definePrune } from './prune.ts'

export function define(command: Command, context: Context): void {
  command.option('-a, --all', 'also those with a name that no container uses')
  definePrune(
    command,
    context,
    ({ all }) =>
      `This removes all images that no container uses${all ? '' : ' and that have no name'}.`,
    ({ all }) => ({ containers: false, images: true, allImages: all === true, volumes: false }),
  )
}
