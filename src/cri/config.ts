/**
 * The daemon's configuration: /etc/berth/config.toml, then the files of /etc/berth/config.toml.d/ in lexical order. Of a key that several files have the
 * last counts, of a list the whole list. A key that berth does not know is refused.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify, TomlError } from 'smol-toml'
import { describe, Fault, isErrno } from '../base/fault.ts'
import type { Setting, TakesEffect, TomlValue } from './setting.ts'
import { type Configuration, HANDLER_SETTINGS, type HandlerSettings, SETTINGS } from './settings.ts'

export type { Configuration, HandlerSettings } from './settings.ts'

export const CONFIGURATION_FILE = '/etc/berth/config.toml'
const FILE_BYTES_MAX = 1024 * 1024
const DROP_INS_MAX = 256
const HANDLERS_MAX = 256
/** Of a refused value, so much is in the message. */
const SHOWN_LENGTH_MAX = 80
/** Kubernetes asks a RuntimeClass' handler to be a DNS label. */
const HANDLER_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const HANDLERS = 'runtime_handlers'

/** A configuration and where each of its values comes from. */
export interface LoadedConfiguration {
  readonly values: Configuration
  /** Of each key as the file has it, such as `stream.port`: the file, the option, or `default`. */
  readonly origins: ReadonlyMap<string, string>
  /** The files that were read, in order. */
  readonly files: readonly string[]
}

export interface LoadOptions {
  /** /etc/berth/config.toml where undefined, and then it may be missing. A file that is named must be there. */
  readonly file?: string | undefined
  /** The directory of --state, for the default of `socket`. */
  readonly state: string
  /** Of the option --socket. */
  readonly socket?: string | undefined
}

/** Reads and judges all files. INVALID_ARGUMENT names the file, and the line or the key; FAILED_PRECONDITION a file that cannot be read. */
export function loadConfiguration(options: LoadOptions): LoadedConfiguration {
  const file = options.file ?? CONFIGURATION_FILE
  const given = new Collected(join(options.state, 'berth.sock'))
  const files: string[] = []
  const main = readFile(file)
  if (main === undefined && options.file !== undefined) {
    throw new Fault('NOT_FOUND', `configuration ${file}: there is no such file`)
  }
  for (const [path, text] of [[file, main] as const, ...dropIns(`${file}.d`)]) {
    if (text === undefined) continue
    files.push(path)
    given.add(parseFile(text, path), path)
  }
  if (options.socket !== undefined) given.add({ socket: options.socket }, '--socket')
  return { ...given.result(), files }
}

/** Keys, in the order of the settings, with what is known of each. */
function* keysOf(
  settings: object,
  before: string,
): Generator<{ readonly key: string; readonly setting: Setting<unknown> }> {
  for (const [name, entry] of Object.entries(settings)) {
    const key = `${before}${keyName(name)}`
    if (isSetting(entry)) yield { key, setting: entry }
    else yield* keysOf(entry as object, `${key}.`)
  }
}

function isSetting(entry: unknown): entry is Setting<unknown> {
  return typeof entry === 'object' && entry !== null && 'takesEffect' in entry
}

/** `idleTimeoutMs` is `idle_timeout` in the file. */
function keyName(name: string): string {
  return name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

const KEYS = new Map([...keysOf(SETTINGS, '')].map(({ key, setting }) => [key, setting]))
const HANDLER_KEYS = new Map([...keysOf(HANDLER_SETTINGS, '')].map((each) => [each.key, each]))

/** The keys of all files so far. */
class Collected {
  readonly #values = new Map<string, { readonly value: unknown; readonly origin: string }>()
  readonly #handlers = new Set<string>()

  constructor(socket: string) {
    this.#values.set('socket', { value: socket, origin: 'default' })
  }

  add(table: Readonly<Record<string, unknown>>, origin: string): void {
    for (const [name, value] of Object.entries(table)) {
      if (name === HANDLERS) this.#addHandlers(value, origin)
      else this.#addKey(name, value, origin)
    }
  }

  #addKey(key: string, value: unknown, origin: string): void {
    const setting = KEYS.get(key)
    if (setting !== undefined) {
      this.#values.set(key, { value: readValue(setting, key, value, origin), origin })
      return
    }
    const below = [...KEYS.keys()].filter((known) => known.startsWith(`${key}.`))
    if (below.length === 0) throw unknownKey(key, [...KEYS.keys(), HANDLERS], origin)
    for (const [name, each] of Object.entries(tableOf(value, key, origin))) {
      this.#addKey(`${key}.${name}`, each, origin)
    }
  }

  #addHandlers(value: unknown, origin: string): void {
    for (const [name, table] of Object.entries(tableOf(value, HANDLERS, origin))) {
      const key = `${HANDLERS}.${name}`
      if (!HANDLER_NAME.test(name)) {
        throw bad(origin, key, 'a handler is called with a-z, 0-9 and -, at most 63 of them')
      }
      this.#handlers.add(name)
      if (this.#handlers.size > HANDLERS_MAX) {
        throw bad(origin, HANDLERS, `there are more than ${HANDLERS_MAX}`)
      }
      for (const [part, each] of Object.entries(tableOf(table, key, origin))) {
        const known = HANDLER_KEYS.get(part)
        const full = `${key}.${part}`
        if (known === undefined) {
          throw unknownKey(
            full,
            [...HANDLER_KEYS.keys()].map((k) => `${key}.${k}`),
            origin,
          )
        }
        this.#values.set(full, { value: readValue(known.setting, full, each, origin), origin })
      }
    }
  }

  result(): Pick<LoadedConfiguration, 'values' | 'origins'> {
    const origins = new Map<string, string>()
    const take = (key: string, otherwise: { value: unknown; origin: string }): unknown => {
      const { value, origin } = this.#values.get(key) ?? otherwise
      origins.set(key, origin)
      return value
    }
    const build = (settings: object, before: string): object =>
      Object.fromEntries(
        Object.entries(settings).map(([name, entry]) => {
          const key = `${before}${keyName(name)}`
          if (!isSetting(entry)) return [name, build(entry as object, `${key}.`)]
          return [name, take(key, { value: entry.fallback, origin: 'default' })]
        }),
      )
    const values = build(SETTINGS, '') as Omit<Configuration, 'runtimeHandlers'>
    const handler = (handlerName: string): HandlerSettings =>
      Object.fromEntries(
        Object.keys(HANDLER_SETTINGS).map((name) => [
          name,
          take(`${HANDLERS}.${handlerName}.${keyName(name)}`, {
            value: values.container[name as keyof HandlerSettings],
            origin: 'as in [container]',
          }),
        ]),
      ) as unknown as HandlerSettings
    const runtimeHandlers = new Map([...this.#handlers].sort().map((name) => [name, handler(name)]))
    return { values: checkWhole({ ...values, runtimeHandlers }, origins), origins }
  }
}

/** What no key can tell alone. */
function checkWhole(values: Configuration, origins: ReadonlyMap<string, string>): Configuration {
  const { tlsCert, tlsKey } = values.stream
  if ((tlsCert === '') !== (tlsKey === '')) {
    const [there, missing] = tlsCert === '' ? ['tls_key', 'tls_cert'] : ['tls_cert', 'tls_key']
    throw bad(origins.get(`stream.${there}`) ?? '', `stream.${there}`, `it needs ${missing} too`)
  }
  return values
}

function readValue(
  setting: Setting<unknown>,
  key: string,
  value: unknown,
  origin: string,
): unknown {
  try {
    return setting.read(value)
  } catch (error) {
    const shown = JSON.stringify(value) ?? String(value)
    const cut = shown.length > SHOWN_LENGTH_MAX ? `${shown.slice(0, SHOWN_LENGTH_MAX)}…` : shown
    throw bad(origin, `${key} = ${cut}`, describe(error))
  }
}

function bad(origin: string, key: string, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${origin}: ${key}: ${reason}`)
}

function unknownKey(key: string, known: readonly string[], origin: string): Fault {
  const table = key.includes('.') ? key.slice(0, key.lastIndexOf('.') + 1) : ''
  const names = known
    .filter((each) => each.startsWith(table))
    .map((each) => each.slice(table.length).split('.')[0] ?? '')
  const where = table === '' ? 'at the top' : `in [${table.slice(0, -1)}]`
  return bad(
    origin,
    key,
    `berth does not know this key (${where}: ${[...new Set(names)].join(', ')})`,
  )
}

function tableOf(value: unknown, key: string, origin: string): Readonly<Record<string, unknown>> {
  const isTable =
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
  if (!isTable) throw bad(origin, key, 'it must be a table')
  return value as Readonly<Record<string, unknown>>
}

function parseFile(text: string, file: string): Readonly<Record<string, unknown>> {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // The first line alone: the others show the text again.
    const [reason = ''] = error.message.replace(/^Invalid TOML document: /, '').split('\n')
    throw new Fault('INVALID_ARGUMENT', `${file}:${error.line}: no valid TOML: ${reason}`)
  }
}

/** The content, or undefined where there is none. A FIFO would stop the daemon for good, a huge file would eat it: both are refused. */
function readFile(path: string): string | undefined {
  try {
    const stat = statSync(path)
    if (!stat.isFile()) throw new Fault('FAILED_PRECONDITION', 'not a file')
    if (stat.size > FILE_BYTES_MAX) {
      throw new Fault('RESOURCE_EXHAUSTED', `larger than ${FILE_BYTES_MAX} bytes`)
    }
    // It decides what containers may do.
    if ((stat.mode & 0o002) !== 0) {
      throw new Fault('PERMISSION_DENIED', 'everybody may write to it: chmod o-w')
    }
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    const code = error instanceof Fault ? error.code : 'FAILED_PRECONDITION'
    throw new Fault(code, `configuration ${path} cannot be read: ${describe(error)}`)
  }
}

function dropIns(directory: string): (readonly [path: string, text: string | undefined])[] {
  let names: string[]
  try {
    names = readdirSync(directory)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw new Fault('FAILED_PRECONDITION', `configuration ${directory} cannot be read`, {
      cause: error,
    })
  }
  // Hidden ones are what an editor has open.
  const wanted = names.filter((name) => name.endsWith('.toml') && !name.startsWith('.')).sort()
  if (wanted.length > DROP_INS_MAX) {
    throw new Fault('RESOURCE_EXHAUSTED', `${directory} holds more than ${DROP_INS_MAX} files`)
  }
  return wanted.map((name) => {
    const path = join(directory, name)
    const text = readFile(path)
    // It is listed: a link that leads nowhere is a mistake, not a choice.
    if (text === undefined) throw new Fault('NOT_FOUND', `configuration ${path}: a dead link`)
    return [path, text]
  })
}

/** One key of a configuration, as the file has it. */
export interface ConfigurationKey {
  readonly key: string
  readonly value: TomlValue
  readonly origin: string
  readonly takesEffect: TakesEffect
}

/** Every key with its value. */
export function listConfiguration(loaded: LoadedConfiguration): ConfigurationKey[] {
  const rows: ConfigurationKey[] = []
  const add = (settings: object, values: unknown, before: string): void => {
    for (const [name, entry] of Object.entries(settings)) {
      const key = `${before}${keyName(name)}`
      const value = (values as Readonly<Record<string, unknown>>)[name]
      if (!isSetting(entry)) add(entry as object, value, `${key}.`)
      else {
        const origin = loaded.origins.get(key) ?? 'default'
        rows.push({ key, value: entry.write(value), origin, takesEffect: entry.takesEffect })
      }
    }
  }
  add(SETTINGS, loaded.values, '')
  for (const [name, handler] of loaded.values.runtimeHandlers) {
    add(HANDLER_SETTINGS, handler, `${HANDLERS}.${name}.`)
  }
  return rows
}

/** The configuration as a file that gives it again, with the origin of each value as a comment. */
export function configurationText(loaded: LoadedConfiguration): string {
  const lines: string[] = []
  let table = ''
  for (const { key, value, origin } of listConfiguration(loaded)) {
    const at = key.lastIndexOf('.')
    const of = at < 0 ? '' : key.slice(0, at)
    if (of !== table) lines.push('', `[${of}]`)
    table = of
    lines.push(`${stringify({ [key.slice(at + 1)]: value }).trimEnd()} # ${origin}`)
  }
  return `${lines.join('\n')}\n`
}

export interface ConfigurationChange {
  readonly key: string
  readonly takesEffect: TakesEffect
  /** As TOML has it; undefined for the keys of a handler that is new or gone. */
  readonly before: TomlValue | undefined
  readonly after: TomlValue | undefined
}

/**
 * What two configurations differ in. Nothing of a `restart` is in force before one, whatever else is in the files: `withReloadable` gives the configuration
 * that a daemon goes on with.
 */
export function compareConfigurations(
  before: LoadedConfiguration,
  after: LoadedConfiguration,
): ConfigurationChange[] {
  const old = new Map(listConfiguration(before).map((row) => [row.key, row]))
  const changes: ConfigurationChange[] = []
  for (const { key, value, takesEffect } of listConfiguration(after)) {
    const was = old.get(key)
    old.delete(key)
    if (JSON.stringify(was?.value) === JSON.stringify(value)) continue
    changes.push({ key, takesEffect, before: was?.value, after: value })
  }
  for (const { key, value, takesEffect } of old.values()) {
    changes.push({ key, takesEffect, before: value, after: undefined })
  }
  return changes
}

/** `after` with the values of `before` where a change needs a restart. */
export function withReloadable(
  before: LoadedConfiguration,
  after: LoadedConfiguration,
): LoadedConfiguration {
  const origins = new Map(after.origins)
  const choose = (settings: object, was: unknown, is: unknown, path: string): object =>
    Object.fromEntries(
      Object.entries(settings).map(([name, entry]) => {
        const key = `${path}${keyName(name)}`
        const old = (was as Readonly<Record<string, unknown>>)[name]
        const now = (is as Readonly<Record<string, unknown>>)[name]
        if (!isSetting(entry)) return [name, choose(entry as object, old, now, `${key}.`)]
        if (entry.takesEffect === 'reload') return [name, now]
        origins.set(key, before.origins.get(key) ?? 'default')
        return [name, old]
      }),
    )
  const values = choose(SETTINGS, before.values, after.values, '') as Configuration
  const { runtimeHandlers } = after.values
  return { values: { ...values, runtimeHandlers }, origins, files: after.files }
}
