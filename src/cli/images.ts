import type { Command } from 'commander'
import type { Image } from '../image/catalog.ts'
import type { Context } from './context.ts'
import { checkFilters, type Filter, parseFilter } from './filter.ts'
import { IMAGE_FILTERS, imageFilter } from './image-filter.ts'
import { openImages } from './image-store.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { parseTimestamp } from './parse/time.ts'
import { age, decimalBytes, digitsOf, shortId, table } from './table.ts'

interface Given {
  quiet?: true
  trunc: boolean
  digests?: true
  format: Format
  filter: Filter[]
}

/** A line of the list: an image under one of its names. */
interface Row {
  readonly image: Image
  readonly repository: string
  readonly tag: string
}

const FILTERS = ['dangling', 'reference', 'id', ...IMAGE_FILTERS] as const
const NONE = '<none>'

export function define(command: Command, context: Context): void {
  command
    .argument('[name]', 'only this repository or name')
    .option('-a, --all', 'berth has no images between, and always lists all')
    .option('-q, --quiet', 'ids only')
    .option('--no-trunc', 'ids in full length')
    .option('--digests', "with the registries' digests")
    .addOption(formatOption())
    .addOption(option('-f, --filter <key=value>', FILTERS.join(', '), parseFilter, 'many'))
    .addHelpText(
      'after',
      examples(
        'berth images',
        'berth images -q -f dangling=true',
        'berth images -f label=team=web -f since=debian:12',
      ),
    )
    .action(async (name: string | undefined, given: Given) => {
      checkFilters(given.filter, FILTERS)
      const { store, familiar } = await openImages(context)
      const filters = name === undefined ? [] : [{ key: 'reference', value: name }]
      const isMeant = await imageFilter(store, given.filter)
      const all = store.catalog
        .list((fault) => store.warn(fault.message))
        .filter(isMeant)
        .sort((a, b) => b.created.localeCompare(a.created))
      const rows = all
        .flatMap((image) => rowsOf(image, familiar))
        .filter((row) => [...filters, ...given.filter].every((filter) => matches(row, filter)))
      const images = [...new Set(rows.map((row) => row.image))]
      if (given.format === 'json') return printJson(context, images)
      const id = (image: Image): string => (given.trunc ? shortId(image.id) : image.id)
      if (given.quiet) return context.print(images.map((image) => `${id(image)}\n`).join(''))
      const nowMs = Date.now()
      await context.print(
        table<Row>(
          [
            { title: 'REPOSITORY', cell: (row) => row.repository },
            { title: 'TAG', cell: (row) => row.tag },
            ...(given.digests ? [{ title: 'DIGEST', cell: digestOf }] : []),
            { title: 'IMAGE ID', cell: (row) => id(row.image) },
            {
              title: 'CREATED',
              cell: ({ image }) => {
                const ns = parseTimestamp(image.created)
                return ns === undefined ? '' : age(ns, nowMs)
              },
            },
            { title: 'SIZE', right: true, cell: (row) => decimalBytes(row.image.size) },
          ],
          rows,
        ),
      )
    })
}

function rowsOf(image: Image, familiar: (name: string) => string): Row[] {
  if (image.names.length === 0) {
    const [digest] = image.repoDigests
    const repository = digest === undefined ? NONE : (familiar(digest).split('@')[0] ?? NONE)
    return [{ image, repository, tag: NONE }]
  }
  return image.names.map((full) => {
    const name = familiar(full)
    const colon = name.lastIndexOf(':')
    const tagged = colon > name.lastIndexOf('/')
    return {
      image,
      repository: tagged ? name.slice(0, colon) : name,
      tag: tagged ? name.slice(colon + 1) : 'latest',
    }
  })
}

function digestOf({ image, repository }: Row): string {
  const found = image.repoDigests.find((name) => name.split('@')[0]?.endsWith(repository))
  return found?.split('@')[1] ?? NONE
}

function matches({ image, repository, tag }: Row, { key, value }: Filter): boolean {
  if (key === 'dangling') return (image.names.length === 0) === (value === 'true' || value === '1')
  if (key === 'id') return digitsOf(image.id).startsWith(digitsOf(value))
  if (key !== 'reference') return true
  // As a path in a shell: * ends at a slash.
  const escaped = value.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  const pattern = new RegExp(`^${escaped.replaceAll('*', '[^/]*').replaceAll('?', '[^/]')}$`)
  return pattern.test(repository) || pattern.test(`${repository}:${tag}`)
}
