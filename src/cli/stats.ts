import type { Command } from 'commander'
import type { ContainerStats } from '../engine/types.ts'
import type { Context } from './context.ts'
import { examples, type Format, formatOption, printJson, printJsonLine } from './output.ts'
import { decimalBytes, humanBytes, shortId, table } from './table.ts'

const INTERVAL_MS = 1000
/** Long enough for a percentage that means something, short enough to wait for. */
const FIRST_MS = 250

interface Given {
  all?: true
  stream: boolean
  trunc: boolean
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('[container...]', 'names or ids; all running ones without')
    .option('-a, --all', 'stopped ones too')
    .option('--no-stream', 'once')
    .option('--no-trunc', 'ids in full length')
    .addOption(formatOption())
    .addHelpText('after', examples('berth stats', 'berth stats --no-stream --format json web'))
    .action(async (names: string[], given: Given) => {
      const { api, engine } = await context.open(async () => ({
        ...(await import('../engine/find.ts')),
        ...(await import('../engine/stats.ts')),
      }))
      const sample = async (before?: ReadonlyMap<string, ContainerStats>) => {
        const refs =
          names.length > 0
            ? names
            : (await api.listContainers(engine, { all: given.all === true })).map(
                (c) => c.record.id,
              )
        return api.containerStats(engine, refs, before)
      }
      const byId = (stats: readonly ContainerStats[]): Map<string, ContainerStats> =>
        new Map(stats.map((one) => [one.id, one]))
      let stats = await sample()
      if (!given.stream) {
        await pause(FIRST_MS)
        stats = await sample(byId(stats))
        return given.format === 'json'
          ? printJson(context, stats)
          : context.print(listing(stats, given.trunc))
      }
      for (let first = true; ; first = false) {
        await pause(first ? FIRST_MS : INTERVAL_MS)
        stats = await sample(byId(stats))
        if (given.format === 'json') await printJsonLine(context, stats)
        else {
          // Home and clear below, so that the table stays where it is.
          const home = context.stdio.isTerminal('stdout') ? '\x1b[H\x1b[J' : ''
          await context.print(home + listing(stats, given.trunc))
        }
      }
    })
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

/** The table of `berth stats`; `--` where the host gives no figure. */
export function listing(stats: readonly ContainerStats[], trunc: boolean): string {
  const or = <T>(value: T | undefined, text: (value: T) => string): string =>
    value === undefined ? '--' : text(value)
  return table<ContainerStats>(
    [
      { title: 'CONTAINER ID', cell: (s) => (trunc ? shortId(s.id) : s.id) },
      { title: 'NAME', cell: (s) => s.name },
      { title: 'CPU %', right: true, cell: (s) => or(s.cpuPercent, (v) => `${v.toFixed(2)}%`) },
      {
        title: 'MEMORY / LIMIT',
        right: true,
        cell: (s) => `${or(s.memoryBytes, humanBytes)} / ${humanBytes(s.memoryLimitBytes)}`,
      },
      {
        title: 'MEMORY %',
        right: true,
        cell: (s) =>
          or(
            s.memoryBytes,
            (v) => `${((Number(v) * 100) / Number(s.memoryLimitBytes)).toFixed(2)}%`,
          ),
      },
      {
        title: 'NETWORK IN / OUT',
        right: true,
        cell: (s) =>
          `${decimalBytes(s.networkReceivedBytes)} / ${decimalBytes(s.networkSentBytes)}`,
      },
      {
        title: 'DISK READ / WRITTEN',
        right: true,
        cell: (s) =>
          `${or(s.blockReadBytes, decimalBytes)} / ${or(s.blockWrittenBytes, decimalBytes)}`,
      },
      { title: 'PIDS', right: true, cell: (s) => or(s.pids, String) },
    ],
    stats,
  )
}
