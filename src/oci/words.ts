import type { Command, Option } from 'commander'

/** A command line as commander reads it. */
export interface Words {
  readonly words: readonly string[]
  /** Undefined where none is named. */
  readonly command: string | undefined
}

/**
 * Engines write Go's flags: there a switch may have a value (`--detach=true`), and one dash does. Only what is ours is read so: behind `exec ID` and `ps ID` all is the
 * program's, or ps(1)'s.
 */
export function goWords(root: Command, args: readonly string[]): Words {
  const words: string[] = []
  let command: Command | undefined
  for (let i = 0; i < args.length; i++) {
    const word = args[i] ?? ''
    if (word === '--') return { words: [...words, ...args.slice(i)], command: command?.name() }
    if (!word.startsWith('-') || word === '-') {
      words.push(word)
      if (command && takesRest(command)) {
        return { words: [...words, ...args.slice(i + 1)], command: command.name() }
      }
      command ??= root.commands.find((each) => each.name() === word)
      continue
    }
    const [, name = '', value] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? []
    const option = optionOf(command ?? root, word, name)
    const isSwitch = option && !option.required && !option.optional
    if (isSwitch && (value === 'true' || value === 'false')) {
      if (value === 'true') words.push(`--${name}`)
      continue
    }
    const isLong = option !== undefined && option.short !== word
    words.push(isLong && !word.startsWith('--') ? `-${word}` : word)
    const next = args[i + 1]
    if (option?.required && value === undefined && next !== undefined) {
      words.push(next)
      i++
    }
  }
  return { words, command: command?.name() }
}

function takesRest(command: Command): boolean {
  return command.registeredArguments.at(-1)?.variadic ?? false
}

function optionOf(command: Command, word: string, name: string): Option | undefined {
  return command.options.find(({ long, short }) => long === `--${name}` || short === word)
}
