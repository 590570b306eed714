import { type FSWatcher, type Stats, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno } from '../base/fault.ts'
import { type BadConf, loadNetworks, type NetworkConf, readConf } from './conf.ts'

/** An event that was missed, or a limit of inotify that was reached, is made good after this time. */
const CHECK_INTERVAL_MS = 10_000
/** A file is written in several steps: they are one change. */
const SETTLE_MS = 50
/** A file that has just changed may change again within one tick of the file system's clock, unseen by its times. */
const YOUNG_MS = 100

interface Known {
  readonly identity: string
  readonly outcome: NetworkConf | Error
}

/**
 * The networks of a directory, as they are now. What is returned never depends on an event: names and times are looked at with each call,
 * and a file is read again only where they differ. The watch is for `changed`, which may be called without a change.
 *
 * The directory need not exist yet, and may be replaced.
 */
export class NetworkDirectory {
  readonly #directory: string
  readonly #changed: () => void
  readonly #known = new Map<string, Known>()
  readonly #interval: NodeJS.Timeout
  #settling: NodeJS.Timeout | undefined
  #watcher: FSWatcher | undefined
  #watched = ''

  constructor(directory: string, changed: () => void) {
    this.#directory = directory
    this.#changed = changed
    this.#interval = setInterval(() => this.#check(), CHECK_INTERVAL_MS).unref()
    this.#watch()
  }

  /** In lexical order of their files, with the files that cannot be used. The same object for a file that has not changed. */
  load(): { networks: NetworkConf[]; bad: BadConf[] } {
    const seen = new Set<string>()
    const loaded = loadNetworks(this.#directory, (file) => {
      seen.add(file)
      return this.#read(file)
    })
    for (const file of this.#known.keys()) if (!seen.has(file)) this.#known.delete(file)
    return loaded
  }

  close(): void {
    clearInterval(this.#interval)
    clearTimeout(this.#settling)
    this.#watcher?.close()
  }

  #read(file: string): NetworkConf {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true })
    const identity = [dev, ino, size, mtimeNs, ctimeNs].join(' ')
    let known = this.#known.get(file)
    if (known?.identity !== identity) {
      const young = Date.now() - Number(ctimeNs / 1_000_000n) < YOUNG_MS
      known = { identity: young ? '' : identity, outcome: outcomeOf(file) }
      this.#known.set(file, known)
    }
    if (known.outcome instanceof Error) throw known.outcome
    return known.outcome
  }

  #check(): void {
    this.#watch()
    this.#changed()
  }

  /** Watches the directory, or the nearest one above it that exists. */
  #watch(): void {
    const { path, identity } = nearest(this.#directory)
    if (identity === this.#watched) return
    this.#watcher?.close()
    this.#watched = ''
    try {
      this.#watcher = watch(path, { persistent: false }, () => this.#event())
      this.#watcher.on('error', () => {
        this.#watched = ''
      })
      this.#watched = identity
    } catch (error) {
      // Gone again, or inotify has no more room: the interval tries again.
      if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ENOSPC', 'EMFILE', 'ENFILE', 'EACCES')) throw error
    }
  }

  #event(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined
      this.#check()
    }, SETTLE_MS).unref()
  }
}

function outcomeOf(file: string): NetworkConf | Error {
  try {
    return readConf(file)
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

function nearest(directory: string): { path: string; identity: string } {
  for (let path = directory; ; path = dirname(path)) {
    const stat = statIfAny(path)
    if (stat?.isDirectory() || path === dirname(path)) {
      return { path, identity: `${path} ${stat?.dev} ${stat?.ino}` }
    }
  }
}

function statIfAny(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}
