import type { Command } from 'commander'
import { findNetwork } from '../network/index.ts'
import type { Context } from './context.ts'
import { formatOption, printJson } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<network...>', 'names')
    .addOption(formatOption('json'))
    .action((names: string[]) =>
      printJson(
        context,
        names.map((name) => findNetwork(name)),
      ),
    )
}
