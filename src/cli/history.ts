import type { Command } from 'commander'
import type { HistoryRow } from '../image/inspect.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { examples, type Format, formatOption, printJson } from './output.ts'
import { parseTimestamp } from './parse/time.ts'
import { age, decimalBytes, shortId, table, truncate } from './table.ts'

interface Given {
  quiet?: true
  trunc: boolean
  format: Format
}

/** docker's word for a step whose result is no image of its own. */
const MISSING = '<missing>'
const CREATED_BY_LENGTH = 45

interface Row extends HistoryRow {
  readonly id: string | undefined
}

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name or id')
    .option('-q, --quiet', 'ids only')
    .option('--no-trunc', 'nothing shortened')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nSizes are those of the unpacked layers on the disk.${examples('berth history debian', 'berth history --no-trunc --format json debian')}`,
    )
    .action(async (name: string, given: Given) => {
      const { store } = await openImages(context)
      const { imageHistory } = await import('../image/inspect.ts')
      const { id, steps } = imageHistory(store, name)
      const rows: Row[] = steps.map((step, i) => ({ ...step, id: i === 0 ? id : undefined }))
      if (given.format === 'json') return printJson(context, rows)
      const idOf = (row: Row): string =>
        row.id === undefined ? MISSING : given.trunc ? shortId(row.id) : row.id
      if (given.quiet) return context.print(rows.map((row) => `${idOf(row)}\n`).join(''))
      const nowMs = Date.now()
      await context.print(
        table<Row>(
          [
            { title: 'IMAGE', cell: idOf },
            {
              title: 'CREATED',
              cell: ({ created }) => {
                const ns = parseTimestamp(created)
                return ns === undefined ? '' : age(ns, nowMs)
              },
            },
            {
              title: 'CREATED BY',
              cell: ({ createdBy }) =>
                given.trunc ? truncate(createdBy, CREATED_BY_LENGTH) : createdBy,
            },
            { title: 'SIZE', right: true, cell: ({ size }) => decimalBytes(size) },
            { title: 'COMMENT', cell: ({ comment }) => comment },
          ],
          rows,
        ),
      )
    })
}
