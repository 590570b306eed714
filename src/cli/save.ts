import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { examples, option, refuse } from './output.ts'
import { progressView } from './progress.ts'

const FORMATS = ['docker-archive', 'oci-archive', 'docker-dir', 'oci-dir'] as const
type SaveTo = (typeof FORMATS)[number]

interface Given {
  output?: string
  format: SaveTo
  quiet?: true
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('<image...>', 'names or ids; an image given by its id is saved without a name')
    .addOption(option('-o, --output <file>', 'file, or folder for the -dir formats', plain))
    .addOption(option('--format <format>', FORMATS.join(', '), saveFormat).default(FORMATS[0]))
    .option('-q, --quiet', 'no progress')
    .addHelpText(
      'after',
      `\nA docker-archive is read by docker load, podman load and skopeo; an oci-archive or -dir also by umoci.${examples('berth save -o app.tar app:1 app:2', 'berth save debian | zstd > debian.tar.zst', 'berth save --format oci-dir -o layout debian')}`,
    )
    .action(async (names: string[], given: Given) => {
      const isFolder = given.format.endsWith('-dir')
      const { output } = given
      checkOutput(output, isFolder)
      const { store } = await openImages(context)
      const { gatherImages, archiveOf } = await import('../image/save.ts')
      const { holdContent } = await import('../image/store.ts')
      const view = progressView(given.quiet === true)
      try {
        await interruptible(async (signal) => {
          using _hold = await holdContent(store, signal)
          await using saved = await gatherImages(store, names, {
            format: given.format.startsWith('docker') ? 'docker-archive' : 'oci-archive',
            progress: view.report,
            signal,
          })
          if (output === undefined) {
            for await (const chunk of archiveOf(saved.files)) await context.print(chunk, signal)
          } else if (isFolder) {
            const { saveToFolder } = await import('../image/save-folder.ts')
            await saveToFolder(output, saved.files)
          } else {
            const { writeStream } = await import('../base/stream-file.ts')
            await writeStream(output, archiveOf(saved.files))
          }
        })
      } finally {
        view.finish()
      }
    })
  refuse(command, {
    '--platform': 'an image here is for one platform; name the image that is for it',
    '-m, --multi-image-archive': 'every archive may hold several images',
    '--compress': 'layers are saved as they are kept',
    '--uncompressed': 'layers are saved as they are kept',
  })
}

function saveFormat(text: string): SaveTo {
  const found = FORMATS.find((format) => format === text)
  if (found !== undefined) return found
  throw new Fault('INVALID_ARGUMENT', `"${text}" is none of ${FORMATS.join(', ')}`)
}

function checkOutput(output: string | undefined, isFolder: boolean): void {
  if (output !== undefined) return
  if (isFolder) throw new Fault('INVALID_ARGUMENT', 'a folder needs a name: give --output')
  if (!process.stdout.isTTY) return
  throw new Fault(
    'INVALID_ARGUMENT',
    'an archive is nothing for a terminal: give --output FILE, or pipe it on',
  )
}
