import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import type { Command } from 'commander'
import { print } from './context.ts'
import { type Format, formatOption, printJson } from './output.ts'

/** The version in package.json. */
export function packageVersion(): string {
  // Seen from dist/src/cli/.
  const file = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

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
