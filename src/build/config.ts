import { posix } from 'node:path'
import { parseDuration } from '../base/duration.ts'
import { Fault } from '../base/fault.ts'
import type { ImageConfig } from '../spec/image.ts'
import {
  type Dockerfile,
  type Instruction,
  instruction,
  jsonTexts,
  refused,
  unsupported,
} from './parse.ts'
import { expandWord, type Lookup, splitPairs, splitWords } from './words.ts'

export type RunConfig = NonNullable<ImageConfig['config']>

/** Docker's shell of the shell forms. */
const SHELL = ['/bin/sh', '-c']
/** Ports of one range. */
const PORT_MAX = 65535

export interface Reading {
  readonly lookup: Lookup
  readonly escaper: Dockerfile['escaper']
  /** Whether the CMD is of this Dockerfile: one of the base image goes with a new ENTRYPOINT (docker's rule). */
  readonly hasCommand?: boolean
}

/** The configuration after an instruction that changes nothing else; undefined for the others. */
export function changedBy(
  config: RunConfig,
  step: Instruction,
  reading: Reading,
): RunConfig | undefined {
  const expand = (word: string): string => expandWord(word, reading.lookup, reading.escaper)
  const words = (): string[] => splitWords(step.text, reading.escaper).map(expand)
  const { text, line } = step
  switch (step.keyword) {
    case 'ENV':
      return { ...config, Env: withEnv(config.Env ?? [], pairs(step, reading)) }
    case 'LABEL':
      return {
        ...config,
        Labels: { ...config.Labels, ...Object.fromEntries(pairs(step, reading)) },
      }
    case 'USER':
      return { ...config, User: expand(text) }
    case 'WORKDIR':
      return { ...config, WorkingDir: posix.resolve(config.WorkingDir || '/', expand(text)) }
    case 'STOPSIGNAL':
      return { ...config, StopSignal: expand(text) }
    case 'CMD':
      return { ...config, Cmd: command(config, text) }
    case 'ENTRYPOINT': {
      const { Cmd, ...rest } = config
      const kept = reading.hasCommand && Cmd ? { Cmd } : {}
      return { ...rest, ...kept, Entrypoint: command(config, text) }
    }
    case 'SHELL': {
      const shell = jsonTexts(text)
      if (!shell || shell.length === 0) throw refused(line, 'SHELL needs a JSON list of texts')
      return { ...config, Shell: shell }
    }
    case 'EXPOSE': {
      const ports = words().flatMap((word) => portsOf(word, line))
      const exposed = Object.fromEntries(ports.map((port) => [port, {}]))
      return { ...config, ExposedPorts: { ...config.ExposedPorts, ...exposed } }
    }
    case 'VOLUME': {
      const paths = (jsonTexts(text) ?? splitWords(text, reading.escaper)).map(expand)
      if (paths.includes('')) throw refused(line, 'VOLUME names no path')
      const volumes = Object.fromEntries(paths.map((path) => [path, {}]))
      return { ...config, Volumes: { ...config.Volumes, ...volumes } }
    }
    case 'HEALTHCHECK':
      return { ...config, Healthcheck: healthcheck(step) }
    case 'ONBUILD': {
      const { keyword } = instruction(text, line)
      if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(keyword)) {
        throw refused(line, `ONBUILD ${keyword} is not allowed`)
      }
      return { ...config, OnBuild: [...(config.OnBuild ?? []), text] }
    }
    default:
      return undefined
  }
}

/** What runs for the text of RUN, CMD or ENTRYPOINT: a JSON list as it is, any other text by the shell. */
export function command(config: RunConfig, text: string): string[] {
  return jsonTexts(text) ?? [...(config.Shell ?? SHELL), text]
}

function pairs(step: Instruction, { lookup, escaper }: Reading): [string, string][] {
  const expand = (word: string): string => expandWord(word, lookup, escaper)
  try {
    return splitPairs(step.text, escaper).map(([name, value]) => [expand(name), expand(value)])
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    throw new Fault(error.code, `Dockerfile line ${step.line}: ${error.message}`)
  }
}

/** An environment with entries put in the place of older ones of the same name. */
export function withEnv(
  env: readonly string[],
  pairs: readonly (readonly [string, string])[],
): string[] {
  const all = new Map(env.map((entry) => [entry.split('=', 1)[0] ?? '', entry]))
  for (const [name, value] of pairs) all.set(name, `${name}=${value}`)
  return [...all.values()]
}

/** The variables of an environment. */
export function envOf(config: RunConfig): Map<string, string> {
  return new Map(
    (config.Env ?? []).map((entry) => {
      const at = entry.indexOf('=')
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)]
    }),
  )
}

function portsOf(word: string, line: number): string[] {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(word)
  const first = Number(match?.[1])
  const last = Number(match?.[2] ?? match?.[1])
  if (!match || first < 1 || last < first || last > PORT_MAX) {
    throw refused(line, `"${word}" is no port, such as 80, 53/udp or 8000-8010`)
  }
  const protocol = (match[3] ?? 'tcp').toLowerCase()
  return Array.from({ length: last - first + 1 }, (_, i) => `${first + i}/${protocol}`)
}

const DURATIONS: Readonly<Record<string, string>> = {
  interval: 'Interval',
  timeout: 'Timeout',
  'start-period': 'StartPeriod',
  'start-interval': 'StartInterval',
}

function healthcheck({ flags, text, line }: Instruction): Record<string, unknown> {
  const [kind = '', ...rest] = text.split(/\s+/)
  if (kind.toUpperCase() === 'NONE') {
    if (rest.length > 0 || flags.length > 0) throw refused(line, 'HEALTHCHECK NONE stands alone')
    return { Test: ['NONE'] }
  }
  const what = text.slice(kind.length).trim()
  if (kind.toUpperCase() !== 'CMD' || what === '') {
    throw refused(line, 'HEALTHCHECK is followed by CMD and a command, or by NONE')
  }
  const check: Record<string, unknown> = {}
  for (const { name, value = '' } of flags) {
    const field = DURATIONS[name]
    const nanoseconds = parseDuration(value)
    if (name === 'retries' && /^[1-9]\d{0,5}$/.test(value)) check['Retries'] = Number(value)
    else if (field !== undefined && nanoseconds !== undefined) check[field] = Number(nanoseconds)
    else if (field === undefined && name !== 'retries') {
      throw unsupported(line, `HEALTHCHECK --${name} is not known to berth`)
    } else throw refused(line, `HEALTHCHECK --${name}=${value} is no value it can have`)
  }
  const list = jsonTexts(what)
  return { Test: list ? ['CMD', ...list] : ['CMD-SHELL', what], ...check }
}
