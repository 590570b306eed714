import type { Command } from 'commander'
import type { Context } from './context.ts'
import { definePrune } from './prune.ts'

export function define(command: Command, context: Context): void {
  definePrune(
    command,
    context,
    () => 'This removes all stopped containers.',
    () => ({ containers: true, images: false, allImages: false, volumes: false }),
  )
}
