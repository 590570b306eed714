import { closeSync, openSync, writeSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'

/**
 * Writes to our stdout or stderr. Not through Node's streams: their first use makes a pipe non-blocking, for the container, too, whose stdio is ours.
 */
export function write(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done)
    } catch (error) {
      if (!isErrno(error, 'EAGAIN')) return
    }
  }
}

type Level = 'debug' | 'warning' | 'error'

/** What happened, as engines read it: the last error of the file is the reason of a failure. */
export class Log {
  readonly #path: string | undefined
  readonly #json: boolean
  readonly #debug: boolean

  constructor(options: { path: string | undefined; format: string; debug: boolean }) {
    this.#path = options.path === '' ? undefined : options.path
    if (options.format !== 'text' && options.format !== 'json') {
      throw new Fault(
        'INVALID_ARGUMENT',
        `invalid log-format ${JSON.stringify(options.format)}: text or json`,
      )
    }
    this.#json = options.format === 'json'
    this.#debug = options.debug
  }

  debug(message: string): void {
    if (this.#debug) this.#line('debug', message)
  }

  warn(message: string): void {
    this.#line('warning', message)
  }

  /** Also on stderr, where the log is a file. */
  error(message: string): void {
    this.#line('error', message)
    if (this.#path !== undefined) write(2, `${message}\n`)
  }

  #line(level: Level, msg: string): void {
    const time = new Date().toISOString()
    const line = this.#json
      ? JSON.stringify({ level, msg, time })
      : `time="${time}" level=${level} msg=${JSON.stringify(msg)}`
    if (this.#path === undefined) {
      write(2, `${line}\n`)
      return
    }
    try {
      const fd = openSync(this.#path, 'a', 0o644)
      try {
        writeSync(fd, `${line}\n`)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      write(2, `${line}\ncannot write ${this.#path}: ${(error as Error).message}\n`)
    }
  }
}
