import type { Command } from 'commander'
import type { DiskUsage } from '../engine/disk-usage.ts'
import type { Context } from './context.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { decimalBytes, shortId, table } from './table.ts'

/** A line of the summary. */
interface Row {
  readonly type: string
  readonly total: number
  readonly active: number
  readonly bytes: number
  readonly reclaimable: number
}

export function define(command: Command, context: Context): void {
  command
    .option('-v, --verbose', 'each image, container and volume')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nSizes are blocks on the disk; what several share counts once in the sums.${examples('berth system df', 'berth system df --format json')}`,
    )
    .action(async ({ verbose, format }: { verbose?: true; format: Format }) => {
      const { api, engine } = await context.open(() => import('../engine/disk-usage.ts'))
      const usage = await api.diskUsage(engine)
      if (format === 'json') return printJson(context, usage)
      await context.print(summary(usage))
      if (verbose) await context.print(details(usage))
    })
}

function summary({ images, containers, volumes, podBytes }: DiskUsage): string {
  const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)
  const idle = containers.filter(({ isActive }) => !isActive)
  const unused = volumes.filter(({ users }) => users.length === 0)
  const rows: Row[] = [
    {
      type: 'Images',
      total: images.images.length,
      active: images.images.filter(({ isUsed }) => isUsed).length,
      bytes: images.totalBytes,
      reclaimable: images.reclaimableBytes,
    },
    {
      type: 'Containers',
      total: containers.length,
      active: containers.length - idle.length,
      bytes: sum(containers.map(({ bytes }) => bytes)),
      reclaimable: sum(idle.map(({ bytes }) => bytes)),
    },
    {
      type: 'Volumes',
      total: volumes.length,
      active: volumes.length - unused.length,
      bytes: sum(volumes.map(({ bytes }) => bytes)),
      reclaimable: sum(unused.map(({ bytes }) => bytes)),
    },
  ]
  const text = table<Row>(
    [
      { title: 'TYPE', cell: (row) => row.type },
      { title: 'TOTAL', right: true, cell: (row) => String(row.total) },
      { title: 'ACTIVE', right: true, cell: (row) => String(row.active) },
      { title: 'SIZE', right: true, cell: (row) => decimalBytes(row.bytes) },
      { title: 'RECLAIMABLE', right: true, cell: (row) => decimalBytes(row.reclaimable) },
    ],
    rows,
  )
  return podBytes > 0 ? `${text}Pods of berth serve: ${decimalBytes(podBytes)}\n` : text
}

function details({ images, containers, volumes }: DiskUsage): string {
  const users = (id: string): number => containers.filter(({ imageId }) => imageId === id).length
  const imageRows = table<DiskUsage['images']['images'][number]>(
    [
      { title: 'IMAGE ID', cell: ({ image }) => shortId(image.id) },
      { title: 'NAMES', cell: ({ image }) => image.names.join(', ') || '<none>' },
      {
        title: 'SIZE',
        right: true,
        cell: ({ ownBytes, sharedBytes }) => decimalBytes(ownBytes + sharedBytes),
      },
      { title: 'SHARED', right: true, cell: ({ sharedBytes }) => decimalBytes(sharedBytes) },
      { title: 'OWN', right: true, cell: ({ ownBytes }) => decimalBytes(ownBytes) },
      { title: 'CONTAINERS', right: true, cell: ({ image }) => String(users(image.id)) },
    ],
    images.images,
  )
  const containerRows = table<DiskUsage['containers'][number]>(
    [
      { title: 'CONTAINER ID', cell: ({ id }) => shortId(id) },
      { title: 'NAME', cell: ({ name }) => name },
      { title: 'STATE', cell: ({ state }) => state },
      { title: 'CHANGED', right: true, cell: ({ changedBytes }) => decimalBytes(changedBytes) },
      { title: 'SIZE', right: true, cell: ({ bytes }) => decimalBytes(bytes) },
    ],
    containers,
  )
  const volumeRows = table<DiskUsage['volumes'][number]>(
    [
      { title: 'VOLUME', cell: ({ name }) => name },
      { title: 'CONTAINERS', right: true, cell: (volume) => String(volume.users.length) },
      { title: 'SIZE', right: true, cell: ({ bytes }) => decimalBytes(bytes) },
    ],
    volumes,
  )
  const store = `Archives ${decimalBytes(images.blobBytes)}, unpacked layers ${decimalBytes(images.layerBytes)}, parts of archives ${decimalBytes(images.partialBytes)}`
  return `\n${store}\n\n${imageRows}\n${containerRows}\n${volumeRows}`
}
