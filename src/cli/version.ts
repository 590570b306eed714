import { release } from 'node:os'
import type { Command } from 'commander'
import { packageVersion } from '../engine/version.ts'
import { print } from './context.ts'
import { type Format, formatOption, printJson } from './output.ts'

export function define(command: Command): void {
  command.addOption(formatOption()).action(async ({ format }: { format: Format }) => {
    const versions = {
      berth: packageVersion(),
      node: process.version.slice(1),
      kernel: release(),
      architecture: process.arch,
    }
    if (format === 'json') return printJson(versions)
    await print(
      Object.entries(versions)
        .map(([name, value]) => `${name.padEnd(12)} ${value}\n`)
        .join(''),
    )
  })
}
