import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import { type Context, forEach } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('[image...]', 'names or ids')
    .option('-a, --all', 'all that are mounted')
    .option('-f, --force', 'also while something there is in use: it ends when that is over')
    .addHelpText('after', examples('berth image unmount debian', 'berth image unmount --all'))
    .action(async (names: string[], given: { all?: true; force?: true }) => {
      if (names.length > 0 === (given.all === true)) {
        throw new Fault('INVALID_ARGUMENT', 'name images, or say --all')
      }
      const { api, engine } = await context.open(() => import('../engine/image-mounts.ts'))
      const meant = given.all
        ? (await api.listImageMounts(engine)).map(({ imageId }) => imageId)
        : names
      await forEach(context, meant, (name) =>
        api.unmountImage(engine, name, { force: given.force === true }),
      )
    })
}
