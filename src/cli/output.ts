import { type Command, Option } from 'commander'
import { Fault } from '../base/fault.ts'
import type { Context } from './context.ts'

export type Format = 'table' | 'json'

/** `--format`: `json` for programs, `table` for people. docker's Go templates are refused. */
export function formatOption(otherwise: Format = 'table'): Option {
  return new Option('--format <format>', 'table or json').default(otherwise).argParser(parseFormat)
}

export function parseFormat(text: string): Format {
  if (text === 'json' || text === 'table') return text
  // podman and docker write their JSON template in these two ways as well.
  if (/^\{\{ *json \. *\}\}$/.test(text)) return 'json'
  const template = text.includes('{{')
    ? 'Go templates are not supported; take json and, for example, jq'
    : 'known are table and json'
  throw new Fault('INVALID_ARGUMENT', `option --format ${text}: ${template}`)
}

/** One JSON document; bigints become text. */
export function printJson({ print }: Context, value: unknown): Promise<void> {
  return print(`${json(value, 2)}\n`)
}

/** One line of a stream of JSON documents. */
export function printJsonLine({ print }: Context, value: unknown): Promise<void> {
  return print(`${json(value)}\n`)
}

/** JSON leaves DEL and the C1 control characters as they are; a terminal does not. */
function json(value: unknown, indent?: number): string {
  return JSON.stringify(value, bigintText, indent).replace(
    /[^\P{Cc}\n]/gu,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

/** Adds one value to those given before: for options that may be repeated. */
export function collect<T>(parse: (text: string) => T): (text: string, before: T[]) => T[] {
  return (text, before) => [...(before ?? []), parse(text)]
}

/** Values between commas, and repeated. */
export function collectList(text: string, before: string[]): string[] {
  return [...(before ?? []), ...text.split(',').filter((part) => part !== '')]
}

/** A parser whose failure names the option. */
export function option<T>(
  flags: string,
  description: string,
  parse: (text: string) => T,
  many?: 'many',
): Option {
  const made = new Option(flags, description)
  const named = (text: string): T => {
    try {
      return parse(text)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      throw new Fault(error.code, `option --${made.name()}: ${error.message}`, {
        cause: error.cause,
      })
    }
  }
  if (many) return made.argParser(collect(named)).default([], '')
  return made.argParser(named)
}

/** Options that docker or podman know and berth does not: refused with the reason, not listed in the help. */
export function refuse(command: Command, options: Readonly<Record<string, string>>): void {
  for (const [flags, reason] of Object.entries(options)) {
    const refused = new Option(`${flags} [value]`).hideHelp()
    command.addOption(refused)
    command.on(`option:${refused.name()}`, () => {
      throw new Fault(
        'UNIMPLEMENTED',
        `option --${refused.name()} is not supported by berth: ${reason}`,
      )
    })
  }
}

/** The lines of a command's help that show how it is used. */
export function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
}
