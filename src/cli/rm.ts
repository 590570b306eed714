import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import { type Context, forEach } from './context.ts'
import { examples } from './output.ts'

export function define(command: Command, context: Context): void {
  command
    .argument('[container...]', 'names or ids')
    .option('-f, --force', 'running ones too, by KILL; one that is not there is no failure')
    .option('-v, --volumes', 'and their anonymous volumes')
    .option('-a, --all', 'all stopped ones; with --force all')
    .addHelpText('after', examples('berth rm web', 'berth rm -fv web', 'berth rm --all'))
    .action(async (names: string[], given: { force?: true; volumes?: true; all?: true }) => {
      if (names.length === 0 && !given.all) {
        throw new Fault('INVALID_ARGUMENT', 'no container is named: name some, or say --all')
      }
      const { api, engine } = await context.open(async () => ({
        ...(await import('../engine/find.ts')),
        ...(await import('../engine/remove.ts')),
      }))
      const options = { force: given.force === true, volumes: given.volumes === true }
      let wanted = names
      if (given.all) {
        const containers = await api.listContainers(engine, { all: true })
        wanted = containers
          .filter(({ status }) => given.force || !['running', 'paused'].includes(status.state))
          .map(({ record }) => record.id)
      }
      await forEach(context, wanted, async (name) => {
        try {
          await api.removeContainer(engine, name, options)
        } catch (error) {
          const absent = error instanceof Fault && error.code === 'NOT_FOUND'
          if (!absent || !given.force) throw error
          return ''
        }
        return name
      })
    })
}
