import type { Command } from 'commander'
import { findNetwork } from '../network/index.ts'
import { formatOption, printJson } from './output.ts'

export function define(command: Command): void {
  command
    .argument('<network...>', 'names')
    .addOption(formatOption('json'))
    .action((names: string[]) => printJson(names.map((name) => findNetwork(name))))
}
