import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('<image...>', 'names or ids')
    .option(
      '-f, --force',
      'also under several names, and where stopped containers use it; one that is not there is no failure',
    )
    .addHelpText(
      'after',
      examples('berth rmi hello', 'berth rmi $(berth images -q -f dangling=true)'),
    )
    .action(async (names: string[], { force }: { force?: true }) => {
      const { api, engine } = await context.open(() => import('../engine/images.ts'))
      const failures: unknown[] = []
      for (const name of names) {
        try {
          const gone = await api.removeImage(engine, name, { force: force === true })
          await context.print(gone.untagged.map((each) => `Untagged: ${each}\n`).join(''))
          await context.print(gone.deleted.map((each) => `Deleted: ${each}\n`).join(''))
        } catch (error) {
          const absent = error instanceof Fault && error.code === 'NOT_FOUND'
          if (!absent || !force) failures.push(error)
        }
      }
      const { describe } = await import('../base/fault.ts')
      for (const failure of failures.slice(0, -1)) context.warn(describe(failure))
      if (failures.length > 0) throw failures.at(-1)
    })
}
