import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { DETACH_KEYS, parseDetachKeys } from './detach-keys.ts'
import { foreground, terminalSize } from './foreground.ts'
import { examples, option, refuse } from './output.ts'
import { parseEnv, parseEnvFile, readOptionFile } from './parse/environment.ts'
import { checkTerminal } from './run.ts'

interface Given {
  interactive?: true
  tty?: true
  detach?: true
  privileged?: true
  env: string[]
  envFile: string[]
  user?: string
  workdir?: string
  detachKeys?: number[]
}

const plain = (text: string): string => text

export function define(command: Command, context: Context): void {
  command
    .argument('<container>', 'name or id')
    .argument('<command...>', 'program and its arguments')
    .option('-i, --interactive', 'pass our stdin on')
    .option('-t, --tty', 'give it a terminal')
    .option('-d, --detach', 'leave it running')
    .option('--privileged', 'all capabilities, no seccomp filter')
    .addOption(option('-e, --env <name=value>', 'environment', parseEnv, 'many'))
    .addOption(option('--env-file <file>', 'environment from a file', plain, 'many'))
    .addOption(option('-u, --user <user[:group]>', 'names or numbers', plain))
    .addOption(option('-w, --workdir <directory>', 'working directory', plain))
    .addOption(
      option(
        '--detach-keys <keys>',
        `keys that leave it running (${DETACH_KEYS})`,
        parseDetachKeys,
      ),
    )
    .passThroughOptions()
    .addHelpText(
      'after',
      examples('berth exec -it web sh', 'berth exec -u postgres db pg_dump app > app.sql'),
    )
    .action(async (name: string, args: string[], given: Given) => {
      const how = {
        interactive: given.interactive === true,
        terminal: given.tty === true,
        detach: given.detach === true,
      }
      checkTerminal(context, how)
      const { api, engine } = await context.open(() => import('../engine/exec.ts'))
      const begun = api.execContainer(engine, name, {
        ...how,
        command: args,
        env: [
          ...given.envFile.flatMap((file) =>
            parseEnvFile(readOptionFile(context.caller, file), file),
          ),
          ...given.env,
        ],
        user: given.user,
        workdir: given.workdir,
        privileged: given.privileged === true,
        ...terminalSize(context, how.terminal),
      })
      if (how.detach) return void (await begun)
      const session = begun.then((it) => {
        if ('pid' in it)
          throw new Fault('INTERNAL', `the program in ${name} was started without its stdio`)
        return it
      })
      const outcome = await foreground(context, session, {
        stdin: how.interactive,
        terminal: how.terminal,
        detachKeys: given.detachKeys ?? parseDetachKeys(DETACH_KEYS),
      })
      if (outcome.kind === 'exit') context.exit(outcome.record.code)
      if (outcome.kind === 'readerGone') context.exit(141)
    })
  refuse(command, {
    '--cidfile': 'name the container',
    '-l, --latest': 'name the container',
    '--preserve-fds': 'the program gets no file descriptor but its stdio',
  })
}
