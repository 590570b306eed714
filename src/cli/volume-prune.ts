import type { Command } from 'commander'
import type { Context } from './context.ts'
import { definePrune } from './prune.ts'

export function define(command: Command, context: Context): void {
  definePrune(
    command,
    context,
    () => 'This removes all volumes that no container uses, with their data.',
    () => ({ containers: false, images: false, allImages: false, volumes: true }),
  )
}
