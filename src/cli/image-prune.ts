import type { Command } from 'commander'
import type { Context } from './context.ts'
import { checkFilters, type Filter, parseFilter } from './filter.ts'
import { examples, option } from './output.ts'
import { definePrune } from './prune.ts'

const FILTERS = ['label', 'label!', 'until'] as const

export function define(command: Command, context: Context): void {
  command
    .option('-a, --all', 'also those with a name that no container uses')
    .addOption(option('--filter <key=value>', FILTERS.join(', '), parseFilter, 'many'))
    .addHelpText(
      'after',
      examples(
        'berth image prune',
        'berth image prune -af --filter until=240h --filter label!=keep',
      ),
    )
  definePrune(
    command,
    context,
    ({ all, filter }) =>
      `This removes all images that no container uses${all ? '' : ' and that have no name'}${(filter as Filter[]).length > 0 ? ', of those that the filters choose' : ''}.`,
    ({ all, filter }) => {
      checkFilters(filter as Filter[], FILTERS)
      return {
        containers: false,
        images: true,
        allImages: all === true,
        imageFilters: filter as Filter[],
        volumes: false,
      }
    },
  )
}
