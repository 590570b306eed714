/**
 * The daemon's log: one line an event, on a stream. Whatever a message or value holds, a line stays one line, has an end, and cannot move a terminal's
 * cursor; whatever the reader does, a call returns at once and never throws.
 */
import type { Writable } from 'node:stream'
import { describe } from '../base/fault.ts'

/** From the most to the least talkative. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]
export type LogFormat = 'text' | 'json'

/** Values beside the message. An undefined one is left out; an error is told with its causes. */
export type LogFields = Readonly<Record<string, unknown>>

/** Of one value; the rest is cut off. */
export const VALUE_LENGTH_MAX = 2048
const FIELDS_MAX = 32
/** What may wait for a slow reader; lines beyond it are dropped and counted. */
const QUEUE_BYTES_MAX = 1024 * 1024

/** sd-daemon(3), the levels of syslog. */
const PRIORITIES: Readonly<Record<LogLevel, string>> = {
  debug: '<7>',
  info: '<6>',
  warn: '<4>',
  error: '<3>',
}

/** C0, C1 and DEL; half characters; line ends of Unicode; what turns the direction of writing. */
const HARMFUL = /[\p{Cc}\p{Cs}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

export interface LogSettings {
  level: LogLevel
  format: LogFormat
}

/** What all children of a log share. */
interface Shared {
  readonly stream: Writable
  readonly settings: LogSettings
  /** Lines begin with a priority that journald takes off. */
  readonly isJournal: boolean
  dropped: number
  /** Of them, told by a line. */
  told: number
}

export class Log {
  readonly #shared: Shared
  readonly #fields: LogFields

  private constructor(shared: Shared, fields: LogFields) {
    this.#shared = shared
    this.#fields = fields
  }

  /**
   * `stream` must not block: Node's stderr does not where it is a pipe or a socket, as under systemd. On a file it writes at once, on a terminal it waits
   * for the terminal.
   */
  static to(stream: Writable, settings: LogSettings, isJournal = false): Log {
    const shared = { stream, settings: { ...settings }, isJournal, dropped: 0, told: 0 }
    const log = new Log(shared, {})
    // A reader that has gone: later lines are dropped.
    stream.on('error', () => {})
    stream.on('drain', () => log.#tellDropped())
    return log
  }

  /** A log whose lines all have these fields. */
  child(fields: LogFields): Log {
    return new Log(this.#shared, { ...this.#fields, ...fields })
  }

  /** Of this log and all its relatives. */
  set(settings: Partial<LogSettings>): void {
    Object.assign(this.#shared.settings, settings)
  }

  get level(): LogLevel {
    return this.#shared.settings.level
  }

  /** Lines that had no place. */
  get dropped(): number {
    return this.#shared.dropped
  }

  debug(message: string, fields?: LogFields): void {
    this.write('debug', message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.write('info', message, fields)
  }

  warn(message: string, fields?: LogFields): void {
    this.write('warn', message, fields)
  }

  error(message: string, fields?: LogFields): void {
    this.write('error', message, fields)
  }

  write(level: LogLevel, message: string, fields: LogFields = {}): void {
    const { settings, stream } = this.#shared
    if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(settings.level)) return
    if (stream.destroyed || stream.writableLength > QUEUE_BYTES_MAX) {
      this.#shared.dropped++
      return
    }
    this.#tellDropped()
    this.#line(level, message, { ...this.#fields, ...fields })
  }

  /** Resolves when all lines are with the reader, or the time is over: before the process ends. */
  async drain(timeoutMs: number): Promise<void> {
    const { stream } = this.#shared
    if (stream.destroyed || stream.writableLength === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      stream.write('', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  #tellDropped(): void {
    const shared = this.#shared
    const count = shared.dropped - shared.told
    if (count === 0) return
    shared.told = shared.dropped
    this.#line('warn', 'lines of this log were dropped: its reader is too slow', { count })
  }

  #line(level: LogLevel, message: string, fields: LogFields): void {
    const { stream, settings, isJournal } = this.#shared
    let line: string
    try {
      line = formatLine(settings.format, new Date(), level, message, fields)
    } catch (error) {
      // A field's own code has thrown.
      line = formatLine(settings.format, new Date(), level, message, { unreadable: String(error) })
    }
    stream.write(`${isJournal ? PRIORITIES[level] : ''}${line}\n`)
  }
}

/** Whether the open file is the journal, by $JOURNAL_STREAM: `DEVICE:INODE` (systemd.exec(5)). */
export function isJournal(
  variable: string | undefined,
  file: { readonly dev: number; readonly ino: number },
): boolean {
  return variable === `${file.dev}:${file.ino}`
}

/** One line without its end. */
export function formatLine(
  format: LogFormat,
  time: Date,
  level: LogLevel,
  message: string,
  fields: LogFields,
): string {
  const values = Object.entries(fields)
    .filter(([name, value]) => value !== undefined && !['time', 'level', 'message'].includes(name))
    .slice(0, FIELDS_MAX)
    .map(([name, value]) => [name, plain(value)] as const)
  if (format === 'json') {
    const line = {
      time: time.toISOString(),
      level,
      message: cut(message),
      ...Object.fromEntries(values),
    }
    return oneLine(JSON.stringify(line))
  }
  const rest = values.map(([name, value]) => ` ${word(name)}=${word(textOf(value))}`).join('')
  return `${time.toISOString()} ${level.toUpperCase().padEnd(5)} ${oneLine(cut(message))}${rest}`
}

/** Numbers, flags and short structures as they are, all else as text of limited length. */
function plain(value: unknown): unknown {
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value
  if (typeof value === 'string') return cut(value)
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Error) return cut(describe(value))
  const json = JSON.stringify(value, (_, each) =>
    typeof each === 'bigint' ? each.toString() : each,
  )
  if (json === undefined) return cut(String(value))
  return json.length > VALUE_LENGTH_MAX ? cut(json) : JSON.parse(json)
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  // Numbers by name, such as the stages of a call: a=1,b=2.
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.entries(value)
      .map(([name, each]) => `${name}:${textOf(each)}`)
      .join(' ')
  }
  return JSON.stringify(value)
}

function cut(text: string): string {
  if (text.length <= VALUE_LENGTH_MAX) return text
  return `${text.slice(0, VALUE_LENGTH_MAX)}… (${text.length} characters)`
}

function oneLine(text: string): string {
  return text.replace(HARMFUL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Most words: to look for what is harmful in all of Unicode takes longer than all else of a line. */
const PLAIN = /^[\w@/.:+-]+$/

/** A word of `key=value`: quoted where it would not be one word. */
function word(text: string): string {
  if (PLAIN.test(text)) return text
  return oneLine(/^[^\s"=\\\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text))
}
