import type { Command } from 'commander'
import { type Context, print } from './context.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { table } from './table.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .addOption(formatOption())
    .addHelpText('after', `\nThe process ids are the host's.${examples('berth top web')}`)
    .action(async (name: string, { format }: { format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/processes.ts'))
      const processes = await api.containerProcesses(engine, name)
      if (format === 'json') return printJson(processes)
      await print(
        table<(typeof processes)[number]>(
          [
            { title: 'USER', cell: (p) => p.user },
            { title: 'PID', right: true, cell: (p) => String(p.pid) },
            { title: 'PPID', right: true, cell: (p) => String(p.ppid) },
            { title: '%CPU', right: true, cell: (p) => p.cpuPercent.toFixed(1) },
            { title: 'STARTED', cell: (p) => p.started },
            { title: 'TTY', cell: (p) => p.tty },
            { title: 'TIME', right: true, cell: (p) => p.time },
            { title: 'COMMAND', cell: (p) => p.command },
          ],
          processes,
        ),
      )
    })
}
