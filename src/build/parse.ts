import { Fault } from '../base/fault.ts'

/** A Dockerfile's bytes. */
export const DOCKERFILE_BYTES_MAX = 1024 * 1024

/** One instruction as it is written: continued lines joined, comments between them gone. */
export interface Instruction {
  /** In capitals. */
  readonly keyword: string
  /** `--name` or `--name=value` before the arguments. */
  readonly flags: readonly Flag[]
  /** What follows. */
  readonly text: string
  /** Of its first line, from 1. */
  readonly line: number
}

export interface Flag {
  readonly name: string
  /** Undefined for a flag without `=`. */
  readonly value: string | undefined
}

export interface Dockerfile {
  readonly escaper: '\\' | '`'
  readonly instructions: readonly Instruction[]
}

const KEYWORDS = new Set(
  'ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR'.split(
    ' ',
  ),
)

/** Whose flags are theirs; any other word that begins with dashes is an argument. */
const FLAGGED = new Set(['ADD', 'COPY', 'FROM', 'HEALTHCHECK', 'RUN'])

export function refused(line: number, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `Dockerfile line ${line}: ${reason}`)
}

export function unsupported(line: number, reason: string): Fault {
  return new Fault('UNIMPLEMENTED', `Dockerfile line ${line}: ${reason}`)
}

/** The instructions of a Dockerfile in order. What BuildKit has beyond them is refused by name. */
export function parseDockerfile(content: string): Dockerfile {
  const lines = content.replace(/^\ufeff/, '').split(/\r?\n/)
  const { escaper, first } = directives(lines)
  const instructions: Instruction[] = []
  const end = escaper === '\\' ? /\\[ \t]*$/ : /`[ \t]*$/
  for (let i = first; i < lines.length; i++) {
    const start = i
    let text = ''
    let isContinued = true
    for (; isContinued && i < lines.length; i++) {
      const line = lines[i] ?? ''
      if (/^\s*(#|$)/.test(line)) {
        // Between continued lines a comment is nothing, and an empty line too.
        if (text === '') break
        continue
      }
      isContinued = end.test(line)
      text += line.replace(end, '')
    }
    if (text === '') continue
    i--
    instructions.push(instruction(text.trim(), start + 1))
  }
  if (instructions.length === 0) {
    throw new Fault('INVALID_ARGUMENT', 'the Dockerfile has no instructions')
  }
  return { escaper, instructions }
}

/** One line of a Dockerfile without continuation, as ONBUILD and --change hold it. */
export function instruction(text: string, line: number): Instruction {
  const match = /^(\S+)(?:\s+(.*))?$/s.exec(text.trim())
  const keyword = (match?.[1] ?? '').toUpperCase()
  if (!KEYWORDS.has(keyword)) throw refused(line, `unknown instruction ${match?.[1] ?? text}`)
  let rest = match?.[2] ?? ''
  const flags: Flag[] = []
  while (FLAGGED.has(keyword)) {
    const flag = /^--([a-zA-Z][a-zA-Z0-9-]*)(?:=(\S*))?(?:\s+|$)/.exec(rest)
    if (!flag) break
    flags.push({ name: flag[1] ?? '', value: flag[2] })
    rest = rest.slice(flag[0].length)
  }
  if (rest === '') throw refused(line, `${keyword} needs an argument`)
  if (['RUN', 'COPY', 'ADD'].includes(keyword)) refuseHeredoc(rest, line)
  return { keyword, flags, text: rest, line }
}

function refuseHeredoc(text: string, line: number): void {
  const found = /(?:^|\s)\d*<<-?\s*(["']?)[A-Za-z_][A-Za-z0-9_]*\1(?=\s|$)/.exec(text)
  if (found && !text.startsWith('[')) {
    throw unsupported(line, `here-documents (${found[0].trim()}) are not supported by berth`)
  }
}

/** The comments at the very beginning that mean something (`# escape=`). */
function directives(lines: readonly string[]): { escaper: '\\' | '`'; first: number } {
  const seen = new Map<string, string>()
  let first = 0
  for (; first < lines.length; first++) {
    const match = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.*?)\s*$/.exec(lines[first] ?? '')
    const name = match?.[1]?.toLowerCase() ?? ''
    if (!['syntax', 'escape', 'check'].includes(name)) break
    if (seen.has(name)) throw refused(first + 1, `the directive ${name} is there twice`)
    seen.set(name, match?.[2] ?? '')
  }
  const syntax = seen.get('syntax')
  // Docker's own front ends read what we read; what they have beyond is refused where it is used.
  if (
    syntax !== undefined &&
    !/^(docker\.io\/)?docker\/dockerfile(-upstream)?(:|@|$)/.test(syntax)
  ) {
    throw unsupported(1, `the syntax ${syntax} is a program of its own, which berth does not run`)
  }
  const escaper = seen.get('escape') ?? '\\'
  if (escaper !== '\\' && escaper !== '`')
    throw refused(1, `escape=${escaper} is neither \\ nor \``)
  return { escaper, first }
}

/** The texts of a JSON list (exec form), or undefined for anything else (shell form, as docker takes it). */
export function jsonTexts(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.every((part) => typeof part === 'string')
      ? value
      : undefined
  } catch {
    return undefined
  }
}
