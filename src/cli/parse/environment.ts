import { readFileSync, statSync } from 'node:fs'
import { Fault } from '../../base/fault.ts'
import type { Caller } from '../../kernel/caller.ts'

export const ENV_FILE_BYTES_MAX = 4 * 1024 * 1024

/** `K=V`, or `K` for the caller's value. */
export function parseEnv(text: string): string {
  if (text !== '' && !text.startsWith('=') && !text.includes('\0')) return text
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no environment variable: NAME=VALUE or NAME`)
}

/** The variables of a file in docker's format: a line each, `#` first for comments, nothing is quoted or expanded. */
export function parseEnvFile(text: string, file: string): string[] {
  return lines(text).flatMap(({ line, number }) => {
    const name = line.split('=', 1)[0] ?? ''
    if (name === '' || /\s/.test(name)) {
      throw new Fault('INVALID_ARGUMENT', `${file}:${number}: "${name}" is no name of a variable`)
    }
    return [line]
  })
}

/** `K=V`, or `K` for an empty value. */
export function parseLabel(text: string): [key: string, value: string] {
  const at = text.indexOf('=')
  const key = at < 0 ? text : text.slice(0, at)
  if (key === '') throw new Fault('INVALID_ARGUMENT', `"${text}" is no label: KEY=VALUE or KEY`)
  return [key, at < 0 ? '' : text.slice(at + 1)]
}

export function parseLabelFile(text: string): [key: string, value: string][] {
  return lines(text).map(({ line }) => parseLabel(line))
}

/** A small text file that an option names. */
export function readOptionFile(caller: Pick<Caller, 'resolve'>, path: string): string {
  const place = caller.resolve(path)
  try {
    const stat = statSync(place)
    if (stat.size > ENV_FILE_BYTES_MAX) {
      throw new Fault('RESOURCE_EXHAUSTED', `it is larger than ${ENV_FILE_BYTES_MAX} bytes`)
    }
    return readFileSync(place, 'utf8')
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `cannot read ${path}`, { cause: error })
  }
}

function lines(text: string): { line: string; number: number }[] {
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line, index) => ({ line: line.replace(/\r$/, '').trimStart(), number: index + 1 }))
    .filter(({ line }) => line !== '' && !line.startsWith('#'))
}
