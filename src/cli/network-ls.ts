import type { Command } from 'commander'
import { BUILT_IN, loadNetworks, type NetworkConf } from '../network/index.ts'
import type { Context } from './context.ts'
import { type Format, formatOption, printJson } from './output.ts'
import { table } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .option('-q, --quiet', 'names only')
    .addOption(formatOption())
    .action(async ({ quiet, format }: { quiet?: true; format: Format }) => {
      const networks = allNetworks(context)
      if (format === 'json') return printJson(context, networks)
      if (quiet) return context.print(networks.map(({ name }) => `${name}\n`).join(''))
      await context.print(
        table<NetworkConf>(
          [
            { title: 'NETWORK', cell: (n) => n.name },
            { title: 'CNI', cell: (n) => n.cniVersions.join(' ') },
            { title: 'PLUGINS', cell: (n) => n.plugins.map((plugin) => plugin.type).join(', ') },
            { title: 'FROM', cell: (n) => n.file || 'built in' },
          ],
          networks,
        ),
      )
    })
}

/** Those of the machine's configuration, and the built-in one where no file takes its name. */
export function allNetworks(context: Context): NetworkConf[] {
  const { networks, bad } = loadNetworks()
  for (const { file, reason } of bad) context.warn(`${file} cannot be used: ${reason}`)
  const own = networks.some(({ name }) => name === BUILT_IN.name)
  return own ? networks : [...networks, BUILT_IN]
}
