import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import type { Engine } from '../engine/open.ts'
import type { Image } from '../image/catalog.ts'
import type { Context } from './context.ts'
import type { Filter } from './filter.ts'
import { type Format, formatOption, printJson } from './output.ts'
import { ownStream } from './own-stdio.ts'
import { decimalBytes } from './table.ts'

interface What {
  readonly containers: boolean
  readonly images: boolean
  readonly allImages: boolean
  /** Of images: only those that the filters choose. */
  readonly imageFilters?: readonly Filter[]
  readonly volumes: boolean
}

/** What the prune commands share: they ask before, and tell what is gone. */
export function definePrune(
  command: Command,
  context: Context,
  sentence: (given: Record<string, unknown>) => string,
  what: (given: Record<string, unknown>) => What,
): void {
  command
    .option('-f, --force', 'do not ask')
    .addOption(formatOption())
    .action(async (given: { force?: true; format: Format } & Record<string, unknown>) => {
      if (!given.force && !(await confirmed(sentence(given)))) return context.exit(1)
      const { api, engine } = await context.open(() => import('../engine/prune.ts'))
      const { imageFilters = [], ...wanted } = what(given)
      const isImageMeant = await chooser(engine, imageFilters)
      const gone = await api.pruneEngine(engine, { ...wanted, isImageMeant })
      if (given.format === 'json') return printJson(context, gone)
      for (const [title, names] of [
        ['container', gone.containers],
        ['image', gone.images],
        ['volume', gone.volumes],
      ] as const) {
        await context.print(names.map((name) => `${title} ${name}\n`).join(''))
      }
      await context.print(`Freed: ${decimalBytes(gone.reclaimedBytes)}\n`)
    })
}

async function chooser(
  engine: Engine,
  filters: readonly Filter[],
): Promise<((image: Image) => boolean) | undefined> {
  if (filters.length === 0) return undefined
  const { openImages } = await import('../engine/images.ts')
  const { imageFilter } = await import('./image-filter.ts')
  return imageFilter(openImages(engine), filters)
}

/** Without a terminal nobody can say yes. */
async function confirmed(sentence: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    const { Fault } = await import('../base/fault.ts')
    throw new Fault('FAILED_PRECONDITION', `${sentence} Say --force where nobody can be asked`)
  }
  const lines = createInterface({ input: process.stdin, output: ownStream('stderr') })
  try {
    return /^y(es)?$/i.test((await lines.question(`${sentence} Go on? [y/N] `)).trim())
  } finally {
    lines.close()
  }
}
