import { closeSync, openSync, writeSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import type { Caller } from '../kernel/caller.ts'

type Level = 'debug' | 'warning' | 'error'

/** What happened, as engines read it: the last error of the file is the reason of a failure. */
export class Log {
  readonly #caller: Caller
  readonly #path: string | undefined
  readonly #json: boolean
  readonly #debug: boolean

  constructor(
    caller: Caller,
    options: { path: string | undefined; format: string; debug: boolean },
  ) {
    this.#caller = caller
    this.#path = options.path ? caller.resolve(options.path) : undefined
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
    if (this.#path !== undefined) this.#caller.write(2, `${message}\n`)
  }

  #line(level: Level, msg: string): void {
    const time = new Date().toISOString()
    const line = this.#json
      ? JSON.stringify({ level, msg, time })
      : `time="${time}" level=${level} msg=${JSON.stringify(msg)}`
    if (this.#path === undefined) {
      this.#caller.write(2, `${line}\n`)
      return
    }
    try {
      const fd = openSync(this.#path, 'a', 0o644 & ~this.#caller.umask)
      try {
        writeSync(fd, `${line}\n`)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      this.#caller.write(2, `${line}\ncannot write ${this.#path}: ${(error as Error).message}\n`)
    }
  }
}
