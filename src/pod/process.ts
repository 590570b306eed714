import { isUtf8 } from 'node:buffer'
import { ARGUMENT_BYTES_MAX, absolute, invalid, list, show, text } from '../plan/check.ts'
import type { ContainerConfig } from '../spec/cri.ts'
import { DEFAULT_PATH } from '../spec/defaults.ts'
import type { ImageConfig } from '../spec/image.ts'
import type { StoredConfig } from './types.ts'

/** Arguments, and variables; execve(2) bounds their bytes, this our work with them. */
const ARGUMENTS_MAX = 32768

/** A configuration as it is kept: values of variables, bytes on the wire, as the text that they have to be. */
export function storedConfig(config: ContainerConfig): StoredConfig {
  const envs = list('envs', config.envs, ARGUMENTS_MAX).map(({ key, value }, i) => {
    if (!isUtf8(value)) throw invalid(`envs[${i}].value`, `${show(key)} is no text in UTF-8`)
    return { key, value: value.toString('utf8') }
  })
  return { ...config, envs }
}

/** The program and its arguments: a command of the client's takes the place of the image's entrypoint and drops its command; arguments, of the command only. */
export function commandOf(
  { command, args }: Pick<StoredConfig, 'command' | 'args'>,
  image: ImageConfig['config'],
): string[] {
  const checked = (field: string, values: readonly string[]): string[] =>
    list(field, values, ARGUMENTS_MAX).map((value, i) =>
      text(`${field}[${i}]`, value, ARGUMENT_BYTES_MAX),
    )
  const given = checked('command', command)
  const more = checked('args', args)
  const ofImage = given.length === 0
  const program = ofImage ? checked("the image's Entrypoint", image?.Entrypoint ?? []) : given
  const rest = more.length > 0 || !ofImage ? more : checked("the image's Cmd", image?.Cmd ?? [])
  const line = [...program, ...rest]
  if (line.length === 0) throw invalid('command', 'no command specified, and the image names none')
  if (line[0] === '') throw invalid('command', 'the name of the program is empty')
  return line
}

interface EnvironmentInput {
  readonly config: Pick<StoredConfig, 'envs' | 'tty'>
  readonly image: ImageConfig['config']
  readonly hostname: string
  /** Of the user, by the container's account files. */
  readonly home: string
}

/** `NAME=value`; later ones win: our own, the image's, the client's. HOME is the account's where nobody names another. */
export function environmentOf({ config, image, hostname, home }: EnvironmentInput): string[] {
  const values = new Map<string, string>([['PATH', DEFAULT_PATH]])
  if (config.tty) values.set('TERM', 'xterm')
  values.set('HOSTNAME', hostname)
  const set = (field: string, key: string, value: string): void => {
    const entry = text(field, `${key}=${value}`, ARGUMENT_BYTES_MAX)
    // Programs copy it into passwd, line by line (CVE-2026-15809).
    if (key === 'HOME' && /[\r\n]/.test(value)) throw invalid(field, 'HOME holds a line end')
    values.set(key, entry.slice(key.length + 1))
  }
  for (const [i, entry] of list("the image's Env", image?.Env, ARGUMENTS_MAX).entries()) {
    const at = String(entry).indexOf('=')
    // An image's name without a value would take one of whoever starts it: there is none here.
    if (at > 0) set(`the image's Env[${i}]`, entry.slice(0, at), entry.slice(at + 1))
  }
  for (const [i, { key, value }] of list('envs', config.envs, ARGUMENTS_MAX).entries()) {
    const field = `envs[${i}].key`
    if (key === '' || key.includes('=')) throw invalid(field, `${show(key)} is no name`)
    set(`envs[${i}]`, key, value)
  }
  if (!values.has('HOME')) values.set('HOME', home)
  return [...values].map(([key, value]) => `${key}=${value}`)
}

export function workingDirectory(
  { workingDir }: Pick<StoredConfig, 'workingDir'>,
  image: ImageConfig['config'],
): string {
  if (workingDir !== '') return absolute('working_dir', workingDir)
  return absolute("the image's WorkingDir", image?.WorkingDir || '/')
}
