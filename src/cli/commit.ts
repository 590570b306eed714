import type { Command } from 'commander'
import type { Instruction } from '../build/parse.ts'
import { changedConfig, changeOption } from './change.ts'
import type { Context } from './context.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, option, printJson } from './output.ts'
import { progressView } from './progress.ts'

const plain = (text: string): string => text

interface Given {
  author?: string
  change: Instruction[]
  message?: string
  pause: boolean
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .argument('[name]', 'of the new image')
    .addOption(option('-a, --author <text>', 'who made it', plain))
    .addOption(changeOption())
    .addOption(option('-m, --message <text>', "of the image's history", plain))
    .option('-p, --pause', 'freeze a running container while its files are read', true)
    .option('--no-pause', 'let it run on: a file that changes just then may be half written')
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nVolumes and other mounts are not in the image. Killed (SIGKILL), it leaves a running container paused until the next\ncommand that looks at it, such as ps.${examples(
        'berth commit web web:patched',
        `berth commit -c 'CMD ["nginx", "-g", "daemon off;"]' -m 'with my page' web web:2`,
      )}`,
    )
    .action(async (name: string, image: string | undefined, given: Given) => {
      const { api, engine } = await context.open(() => import('../engine/commit.ts'))
      const view = progressView(given.quiet === true)
      try {
        const made = await interruptible((signal) =>
          api.commitContainer(engine, name, {
            name: image,
            author: given.author,
            message: given.message,
            change: (config) => changedConfig(given.change, config),
            pause: given.pause,
            progress: view.report,
            signal,
          }),
        )
        view.finish()
        await (given.format === 'json' ? printJson(context, made) : context.print(`${made.id}\n`))
      } finally {
        view.finish()
      }
    })
}
