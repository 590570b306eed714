import type { Command } from 'commander'
import type { Context } from './context.ts'
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
      if (format === 'json') return printJson(context, processes)
      await context.print(
        table<(typeof processes)[number]>(
          [
            { title: 'USER', cell: (p) => p.user },
            { title: 'PID', right: true, cell: (p) => String(p.pid) },
            { title: 'PPID', right: true, cell: (p) => String(p.ppid) },
            { title: '%CPU', right: true, cell: (p) => p.cpuPercent.toFixed(1) },
            { title: 'STARTED', cell: (p) => startedText(p.started, new Date()) },
            { title: 'TTY', cell: (p) => p.tty },
            { title: 'TIME', right: true, cell: (p) => p.time },
            { title: 'COMMAND', cell: (p) => p.command },
          ],
          processes,
        ),
      )
    })
}

/** The time of day, or the day where that is another, in local time. */
export function startedText(started: string, now: Date): string {
  const time = new Date(started)
  if (Number.isNaN(time.getTime())) return started
  const two = (n: number): string => String(n).padStart(2, '0')
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`
  return time.toDateString() === now.toDateString()
    ? `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
    : day
}
