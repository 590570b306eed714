import type { Command } from 'commander'
import type { Instruction } from '../build/parse.ts'
import { changedConfig, changeOption } from './change.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { calledOff, stdin } from './load.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { progressView } from './progress.ts'

const plain = (text: string): string => text

interface Given {
  change: Instruction[]
  message?: string
  platform?: string
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('<archive>', 'tar of a root file system, plain, gzip or zstd; - for stdin')
    .argument('[name]', 'of the image')
    .addOption(changeOption())
    .addOption(option('-m, --message <text>', "of the image's history", plain))
    .addOption(option('--platform <os/arch>', "in place of this machine's", plain))
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      examples(
        'berth import rootfs.tar.gz debian:mine',
        `debootstrap stable rootfs && tar -C rootfs -c . | berth import -c 'CMD ["bash"]' - debian`,
      ),
    )
    .action(async (archive: string, name: string | undefined, given: Given) => {
      const config = changedConfig(given.change ?? [])
      const source = archive === '-' ? stdin('the archive') : archive
      const { store, changed } = await openImages(context)
      const { importImage } = await import('../image/import.ts')
      const view = progressView(given.quiet === true)
      try {
        const loaded = await interruptible((signal) =>
          importImage(store, calledOff(source, signal), {
            name,
            config,
            platform: given.platform,
            message: given.message,
            created: new Date().toISOString(),
            progress: view.report,
            signal,
          }),
        )
        view.finish()
        await changed('import', loaded.id, loaded.names[0] ?? loaded.id)
        await (given.format === 'json'
          ? printJson(context, loaded)
          : context.print(`${loaded.id}\n`))
      } finally {
        view.finish()
      }
    })
}
