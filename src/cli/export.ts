import { addAbortSignal } from 'node:stream'
import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { interruptible } from './interrupt.ts'
import { examples, option } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .addOption(option('-o, --output <file>', 'in place of stdout', (text) => text))
    .addHelpText(
      'after',
      `\nVolumes and other mounts are not in it.${examples(
        'berth export web -o web.tar',
        'berth export web | berth import - web:flat',
      )}`,
    )
    .action(async (name: string, { output }: { output?: string }) => {
      if (output === undefined && process.stdout.isTTY) {
        throw new Fault(
          'INVALID_ARGUMENT',
          'an archive is nothing for a terminal: give --output FILE, or pipe it on',
        )
      }
      const { api, engine } = await context.open(() => import('../engine/export.ts'))
      const { writeStream } = await import('../base/stream-file.ts')
      await interruptible(async (signal) => {
        const archive = await api.exportContainer(engine, name)
        // The next piece of it is an error then: what was written goes.
        addAbortSignal(signal, archive)
        if (output !== undefined) return writeStream(output, archive)
        for await (const chunk of archive) await context.print(chunk as Uint8Array, signal)
      })
    })
}
