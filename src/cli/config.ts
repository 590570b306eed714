import { type Command, Option } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'
import { examples, printJson } from './output.ts'

interface Given {
  readonly config?: string
  readonly format: 'toml' | 'json'
}

export function define(command: Command, context: Context): void {
  command
    .argument('[check]', 'the word "check": says what is wrong, prints nothing else')
    .option('--config <file>', 'in place of /etc/berth/config.toml, which may be missing')
    .addOption(
      new Option('--format <format>', 'toml or json').default('toml').argParser(parseTomlFormat),
    )
    .addHelpText(
      'after',
      `\nPrints the configuration of berth serve, each value with the file it comes from.\n${examples(
        'berth config',
        'berth config check && systemctl reload berth',
        'berth config --format json',
      )}`,
    )
    .action(async (word: string | undefined, { config, format }: Given) => {
      if (word !== undefined && word !== 'check') {
        throw new Fault('INVALID_ARGUMENT', `"${word}" is no word of berth config: check`)
      }
      const { configurationText, listConfiguration, loadConfiguration } = await import(
        '../cri/config.ts'
      )
      const loaded = loadConfiguration({ file: config, state: context.roots().state })
      if (word === 'check') {
        const { checkFiles } = await import('../cri/config-check.ts')
        const problems = checkFiles(loaded.values)
        for (const problem of problems.slice(0, -1)) context.warn(problem)
        const last = problems.at(-1)
        if (last !== undefined) throw new Fault('FAILED_PRECONDITION', last)
        return context.print(
          loaded.files.map((file) => `${file}: good\n`).join('') || 'no file: defaults\n',
        )
      }
      if (format === 'json') {
        return printJson(context, { files: loaded.files, keys: listConfiguration(loaded) })
      }
      await context.print(configurationText(loaded))
    })
}

function parseTomlFormat(text: string): Given['format'] {
  if (text === 'toml' || text === 'json') return text
  throw new Fault('INVALID_ARGUMENT', `option --format ${text}: known are toml and json`)
}
