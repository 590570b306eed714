import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { within } from '../base/within.ts'
import {
  isMonitorAlive,
  type Monitor,
  openMonitorProgram,
  startMonitor,
} from '../container/monitor.ts'
import { newId } from '../engine/record.ts'
import type { Fd } from '../kernel/fd.ts'
import { killMonitor, MONITOR_ANSWER_MS } from './hung.ts'
import type { PodPaths } from './paths.ts'

/** After a pod has taken the spare one: by then its own start is over, which another monitor's would slow down. */
const SPARE_AFTER_MS = 15

interface Spare {
  readonly id: string
  readonly directory: string
  readonly monitor: Monitor
}

/**
 * Starts the monitors of pods. The program is opened once, since a mount costs about as much as the start, and one monitor waits for the next pod. A spare holds
 * nothing but its connection: with the daemon it ends by itself.
 */
export class Monitors {
  readonly #at: PodPaths
  readonly #warn: (text: string) => void
  #program: Fd | undefined
  #spare: Spare | undefined
  #preparing: Promise<void> | undefined
  #keepsSpare = false
  #timer: NodeJS.Timeout | undefined
  /** That none could be started is told once. */
  #hasFailed = false

  constructor(at: PodPaths, warn: (text: string) => void) {
    this.#at = at
    this.#warn = warn
  }

  /** Of a pod that is about to take() its monitor: that of the one that waits, where one does. */
  nextId(): string {
    return this.#spare?.id ?? newId()
  }

  /** Whether the one that waits has this id. */
  isSpare(id: string): boolean {
    return this.#spare?.id === id
  }

  /** A pod's monitor, and with it the directory of its state, which the caller removes. Rejects as startMonitor does. */
  take(id: string): Promise<Monitor> {
    const directory = this.#at.monitor(id)
    const spare = this.#spare
    this.#prepareSoon()
    if (spare?.id === id) {
      if (isMonitorAlive(spare.directory)) {
        renameSync(spare.directory, directory)
        this.#spare = undefined
        return Promise.resolve(spare.monitor)
      }
      // Its connection has not told yet; or somebody has removed its directory.
      this.#forget(spare)
    }
    mkdirSync(directory, { mode: 0o700 })
    return this.#start(directory)
  }

  /** From now on one monitor waits. */
  keepSpare(): void {
    this.#keepsSpare = true
    this.#prepareSoon()
  }

  /** The spare one ends. */
  async end(): Promise<void> {
    this.#keepsSpare = false
    clearTimeout(this.#timer)
    await this.#preparing
    const spare = this.#spare
    this.#spare = undefined
    if (spare) await this.#discard(spare)
    this.#program?.close()
    this.#program = undefined
  }

  /** Removes what the spare one of a daemon that was killed has left. */
  recover(): void {
    for (const id of this.#left()) {
      const directory = this.#at.spare(id)
      try {
        // It is just ending, unless it hangs.
        if (isMonitorAlive(directory)) killMonitor(directory, id, this.#warn)
      } catch (error) {
        this.#warn(`spare monitor ${id}: ${describe(error)}`)
      }
      this.#remove(directory)
    }
  }

  #left(): readonly string[] {
    try {
      return readdirSync(this.#at.spares)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) this.#warn(`cannot look for monitors: ${describe(error)}`)
      return []
    }
  }

  async #start(directory: string): Promise<Monitor> {
    this.#program ??= openMonitorProgram()
    return startMonitor({ directory, program: this.#program })
  }

  #prepareSoon(): void {
    if (!this.#keepsSpare) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#preparing ??= this.#prepare().finally(() => {
        this.#preparing = undefined
      })
    }, SPARE_AFTER_MS).unref()
  }

  async #prepare(): Promise<void> {
    if (this.#spare) return
    const id = newId()
    const directory = this.#at.spare(id)
    try {
      // Also the one of all spares: somebody may have removed it.
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      const spare = { id, directory, monitor: await this.#start(directory) }
      this.#spare = spare
      this.#hasFailed = false
      void spare.monitor.lost.then(() => {
        if (this.#spare === spare) this.#forget(spare)
      })
    } catch (error) {
      this.#remove(directory)
      // Each pod tries again, and starts its own.
      if (!this.#hasFailed) this.#warn(`no monitor waits for the next pod: ${describe(error)}`)
      this.#hasFailed = true
    }
  }

  /** It is no pod's any more; where it lives it ends with its connection. */
  #forget(spare: Spare): void {
    this.#spare = undefined
    spare.monitor.close()
    this.#remove(spare.directory)
  }

  #remove(directory: string): void {
    try {
      rmSync(directory, { recursive: true, force: true })
    } catch (error) {
      if (!isErrno(error, 'ENOTDIR')) this.#warn(`cannot remove ${directory}: ${describe(error)}`)
    }
  }

  async #discard({ id, directory, monitor }: Spare): Promise<void> {
    try {
      using known = monitor
      await within(MONITOR_ANSWER_MS, known.quit())
      await within(MONITOR_ANSWER_MS, known.lost)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      if (error.code === 'DEADLINE_EXCEEDED') killMonitor(directory, id, this.#warn)
      else if (error.code !== 'UNAVAILABLE') this.#warn(`spare monitor ${id}: ${describe(error)}`)
    }
    this.#remove(directory)
  }
}
