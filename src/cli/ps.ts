import type { Command } from 'commander'
import type { Container } from '../engine/types.ts'
import type { Context } from './context.ts'
import { checkFilters, type Filter, parseFilter } from './filter.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { parseInteger } from './parse/size.ts'
import { age, digitsOf, humanSpan, shortId, table, truncate } from './table.ts'

interface Given {
  all?: true
  quiet?: true
  trunc: boolean
  format: Format
  filter: Filter[]
  last?: number
  latest?: true
}

const FILTERS = [
  'id',
  'name',
  'label',
  'status',
  'ancestor',
  'exited',
  'volume',
  'network',
] as const

export function define(command: Command, context: Context): void {
  command
    .option('-a, --all', 'stopped ones too')
    .option('-q, --quiet', 'ids only')
    .option('--no-trunc', 'ids and commands in full length')
    .addOption(formatOption())
    .addOption(option('-f, --filter <key=value>', FILTERS.join(', '), parseFilter, 'many'))
    .addOption(option('-n, --last <n>', 'the newest n, whatever their state', parseInteger(1, 1e6)))
    .option('-l, --latest', 'the newest, whatever its state')
    .addHelpText(
      'after',
      `${examples('berth ps -a', 'berth ps -q -f status=exited')}
Those of pods, which are a kubelet's: berth pods`,
    )
    .action(async (given: Given) => {
      checkFilters(given.filter, FILTERS)
      const last = given.latest ? 1 : given.last
      const { api, engine } = await context.open(() => import('../engine/find.ts'))
      // A state that is asked for is looked for among all, as in docker.
      const byState = given.filter.some(({ key }) => key === 'status' || key === 'exited')
      const all = given.all === true || last !== undefined || byState
      const listed = await api.listContainers(engine, { all })
      const containers = listed.filter((c) => matches(c, given.filter)).slice(0, last)
      if (given.format === 'json') return printJson(context, containers.map(document))
      if (given.quiet) {
        const ids = containers.map(({ record }) => (given.trunc ? shortId(record.id) : record.id))
        return context.print(ids.map((id) => `${id}\n`).join(''))
      }
      await context.print(listing(containers, given.trunc, Date.now()))
    })
}

/** The table of `berth ps`. */
export function listing(containers: readonly Container[], trunc: boolean, nowMs: number): string {
  return table<Container>(
    [
      { title: 'CONTAINER ID', cell: ({ record }) => (trunc ? shortId(record.id) : record.id) },
      { title: 'IMAGE', cell: ({ record }) => record.image },
      {
        title: 'COMMAND',
        cell: ({ record }) => {
          const text = record.command.join(' ')
          return trunc ? truncate(text, 30) : text
        },
      },
      { title: 'CREATED', cell: ({ record }) => age(record.createdNs, nowMs) },
      { title: 'STATUS', cell: ({ status }) => statusText(status, nowMs) },
      { title: 'PORTS', cell: ({ record }) => record.options.ports.map(portText).join(', ') },
      { title: 'NAME', cell: ({ record }) => record.name },
    ],
    containers,
  )
}

/** What of a container's status is told in a list. */
type Told = 'state' | 'startedNs' | 'finishedNs' | 'exitCode' | 'oomKilled'

/** A container's state for people, as docker words it. */
export function statusText(status: Pick<Container['status'], Told>, nowMs: number): string {
  const span = (ns: string): string => humanSpan(nowMs - Number(BigInt(ns || '0') / 1_000_000n))
  switch (status.state) {
    case 'created':
      return 'Created'
    case 'running':
      return `Up ${span(status.startedNs)}`
    case 'paused':
      return `Up ${span(status.startedNs)} (Paused)`
    case 'stopped': {
      const why = status.oomKilled ? ', out of memory' : ''
      // Lost with its monitor, and no command has looked after it since: nobody knows when.
      const when = status.finishedNs === '0' ? '' : ` ${span(status.finishedNs)} ago`
      return `Exited (${status.exitCode}${why})${when}`
    }
  }
}

function portText(port: Container['record']['options']['ports'][number]): string {
  const ip = port.hostIp.includes(':') ? `[${port.hostIp}]` : port.hostIp || '0.0.0.0'
  return `${ip}:${port.hostPort}->${port.containerPort}/${port.protocol}`
}

function document({ record, status }: Container): Record<string, unknown> {
  const { id, name, image, imageId, command, labels, createdNs, options, volumes } = record
  return {
    id,
    name,
    image,
    imageId,
    command,
    labels,
    createdNs,
    ports: options.ports,
    volumes,
    ...status,
  }
}

/** Values of one key are alternatives; different keys must all hold. Labels must all hold. */
function matches(container: Container, filters: readonly Filter[]): boolean {
  const keys = new Set(filters.map(({ key }) => key))
  return [...keys].every((key) => {
    const values = filters.filter((f) => f.key === key).map(({ value }) => value)
    const one = (value: string): boolean => matchesOne(container, key, value)
    return key === 'label' ? values.every(one) : values.some(one)
  })
}

function matchesOne({ record, status }: Container, key: string, value: string): boolean {
  switch (key) {
    case 'id':
      return record.id.startsWith(value)
    case 'name':
      return record.name.includes(value)
    case 'label': {
      const [name = '', ...rest] = value.split('=')
      return rest.length === 0 ? name in record.labels : record.labels[name] === rest.join('=')
    }
    case 'status':
      return status.state === (value === 'exited' ? 'stopped' : value)
    case 'ancestor':
      return record.image === value || digitsOf(record.imageId).startsWith(digitsOf(value))
    case 'exited':
      return status.state === 'stopped' && String(status.exitCode) === value
    case 'volume':
      return record.volumes.some((volume) => volume.name === value || volume.target === value)
    case 'network':
      return (record.options.network ?? 'bridge') === value
    default:
      return false
  }
}
