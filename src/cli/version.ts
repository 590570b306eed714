import { release } from 'node:os'
import type { Command } from 'commander'
import { packageVersion } from '../engine/version.ts'
import type { Context } from './context.ts'
import { type Format, formatOption, printJson } from './output.ts'

export function define(command: Command, context: Context): void {
  command.addOption(formatOption()).action(async ({ format }: { format: Format }) => {
    const versions = {
      berth: packageVersion(),
      node: process.version.slice(1),
      kernel: release(),
      architecture: process.arch,
    }
    if (format === 'json') return printJson(context, versions)
    await context.print(
      Object.entries(versions)
        .map(([name, value]) => `${name.padEnd(12)} ${value}\n`)
        .join(''),
    )
  })
}
