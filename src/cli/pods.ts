import type { Command } from 'commander'
import type { ListedContainer, ListedPod } from '../pod/list.ts'
import type { Context } from './context.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { statusText } from './ps.ts'
import { age, shortId, table } from './table.ts'

interface Given {
  trunc: boolean
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .option('--no-trunc', 'ids in full length')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nThe pods of berth serve, each followed by its containers. The daemon need not run.\n${examples(
        'berth pods',
        'berth pods --format json',
      )}`,
    )
    .action(async ({ trunc, format }: Given) => {
      const { api, engine } = await context.open(() => import('../pod/list.ts'))
      const pods = api.listPods(engine)
      if (format === 'json') return printJson(context, pods.map(document))
      await context.print(listing(pods, trunc, Date.now()))
    })
}

/** Of a pod or of a container. */
interface Row {
  readonly id: string
  readonly name: string
  readonly attempt: number
  readonly status: string
  readonly createdNs: string
  /** The image of a container, the addresses of a pod. */
  readonly what: string
}

function listing(pods: readonly ListedPod[], trunc: boolean, nowMs: number): string {
  return table<Row>(
    [
      { title: 'ID', cell: ({ id }) => (trunc ? shortId(id) : id) },
      { title: 'POD OR CONTAINER', cell: ({ name }) => name },
      { title: 'ATTEMPT', cell: ({ attempt }) => String(attempt), right: true },
      { title: 'STATUS', cell: ({ status }) => status },
      { title: 'CREATED', cell: ({ createdNs }) => age(createdNs, nowMs) },
      { title: 'ADDRESSES OR IMAGE', cell: ({ what }) => what },
    ],
    pods.flatMap((pod) => rowsOf(pod, nowMs)),
  )
}

function rowsOf({ record, isReady, addresses, containers }: ListedPod, nowMs: number): Row[] {
  const { id, createdNs, config } = record
  const name = `${config.metadata?.namespace}/${config.metadata?.name}`
  const pod = {
    id,
    name,
    attempt: config.metadata?.attempt ?? 0,
    status: isReady ? 'Ready' : 'Not ready',
    createdNs,
    what: addresses.join(', '),
  }
  return [pod, ...containers.map((each) => rowOf(name, each, nowMs))]
}

function rowOf(pod: string, { record, status }: ListedContainer, nowMs: number): Row {
  const { id, createdNs, config } = record
  const { state, reason, ...rest } = status
  return {
    id,
    name: `${pod}/${config.metadata?.name}`,
    attempt: config.metadata?.attempt ?? 0,
    status: statusText(
      { ...rest, state: state === 'exited' ? 'stopped' : state, oomKilled: reason === 'OOMKilled' },
      nowMs,
    ),
    createdNs,
    what: imageOf(record),
  }
}

/** As the client named it, which may be by a tag. */
const imageOf = ({ config, imageRef }: ListedContainer['record']): string =>
  config.image?.userSpecifiedImage || imageRef

function document({ record, isReady, addresses, containers }: ListedPod): Record<string, unknown> {
  const { id, createdNs, config, runtimeHandler } = record
  return {
    id,
    ...config.metadata,
    isReady,
    addresses,
    createdNs,
    runtimeHandler,
    labels: config.labels,
    annotations: config.annotations,
    containers: containers.map(containerDocument),
  }
}

function containerDocument({ record, status }: ListedContainer): Record<string, unknown> {
  const { id, createdNs, config, imageId, logPath } = record
  return {
    id,
    ...config.metadata,
    image: imageOf(record),
    imageId,
    createdNs,
    ...status,
    logPath,
    labels: config.labels,
    annotations: config.annotations,
  }
}
