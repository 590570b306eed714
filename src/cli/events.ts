import type { Command } from 'commander'
import type { EngineEvent } from '../engine/types.ts'
import type { Context } from './context.ts'
import { checkFilters, type Filter, parseFilter } from './filter.ts'
import { examples, type Format, formatOption, option, printJsonLine } from './output.ts'
import { parseMoment } from './parse/time.ts'
import { clean } from './table.ts'

interface Given {
  since?: bigint
  until?: bigint
  stream: boolean
  format: Format
  filter: Filter[]
}

const FILTERS = ['type', 'event', 'container', 'image', 'volume', 'label'] as const

export function define(command: Command, context: Context): void {
  const moment = (text: string): bigint => parseMoment(text, Date.now())
  command
    .addOption(option('--since <time>', 'past ones first, from a date or 10m ago', moment))
    .addOption(option('--until <time>', 'end there', moment))
    .option('--no-stream', 'only what has been')
    .addOption(formatOption())
    .addOption(option('-f, --filter <key=value>', FILTERS.join(', '), parseFilter, 'many'))
    .addHelpText(
      'after',
      `\nWith --format json each event is one line.${examples('berth events --since 1h --no-stream', 'berth events -f event=oom')}`,
    )
    .action(async (given: Given) => {
      checkFilters(given.filter, FILTERS)
      const { api, engine } = await context.open(() => import('../engine/events.ts'))
      const abort = new AbortController()
      const stop = (): void => abort.abort()
      process.once('SIGINT', stop).once('SIGTERM', stop)
      const now = BigInt(Date.now()) * 1_000_000n
      const sinceNs = given.since ?? (given.stream ? undefined : 0n)
      const stream = api.engineEvents(engine, {
        ...(sinceNs === undefined ? {} : { sinceNs: String(sinceNs) }),
        ...(given.until === undefined ? {} : { untilNs: String(given.until) }),
        follow: given.stream && (given.until === undefined || given.until > now),
        signal: abort.signal,
      })
      for await (const event of stream) {
        if (!matches(event, given.filter)) continue
        if (given.format === 'json') await printJsonLine(context, event)
        else await context.print(`${eventLine(event)}\n`)
      }
    })
}

/** `2026-01-31T12:00:00.000000001Z container start ID (name=web, …)` */
export function eventLine(event: EngineEvent): string {
  const ns = BigInt(event.timeNs)
  const second = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19)
  const time = `${second}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`
  const all = { ...(event.name === '' ? {} : { name: event.name }), ...event.attributes }
  const attributes = Object.entries(all).map(([key, value]) => `${key}=${value}`)
  const rest = attributes.length > 0 ? ` (${attributes.join(', ')})` : ''
  return clean(`${time} ${event.type} ${event.action} ${event.id}${rest}`)
}

function matches(event: EngineEvent, filters: readonly Filter[]): boolean {
  const keys = new Set(filters.map(({ key }) => key))
  return [...keys].every((key) =>
    filters.some((filter) => filter.key === key && matchesOne(event, key, filter.value)),
  )
}

function matchesOne(event: EngineEvent, key: string, value: string): boolean {
  if (key === 'type') return event.type === value
  if (key === 'event') return event.action === value
  if (key === 'label') {
    const [name = '', ...rest] = value.split('=')
    const label = event.attributes[name]
    return rest.length === 0 ? label !== undefined : label === rest.join('=')
  }
  return event.type === key && (event.name === value || event.id.startsWith(value))
}
