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
import type { Roots } from '../engine/types.ts'
import type { Fd } from '../kernel/fd.ts'
import { killMonitor, MONITOR_ANSWER_MS } from './hung.ts'
import { HELD_AHEAD } from './namespaces.ts'
import { type PodPaths, podPaths } from './paths.ts'
import { makePodDirectories, prepareFiles } from './prepared.ts'

/** After a pod has taken a spare one, and after the last call of a start: what comes next of it would be slowed down by another monitor's start. */
const SPARE_AFTER_MS = 15
/** Calls of starts that never pause put it off no longer. */
const SPARE_WITHIN_MS = 150
/** Monitors that wait at most, after so many pods have come at once. Each takes some 200 KiB. */
const SPARES_MAX = 10
/** Without a pod for so long, one waits again. */
const QUIET_MS = 60_000

/** What a monitor has that waits: what most pods share (HELD_AHEAD), or nothing, for a pod that needs something else before that. */
export type SpareKind = 'holding' | 'bare'

interface Spare {
  readonly id: string
  readonly kind: SpareKind
  readonly monitor: Monitor
  /** The pod's first container will be this one: its files are made, too. */
  readonly container: string
}

const KINDS: readonly SpareKind[] = ['holding', 'bare']
const NONE: Readonly<Record<SpareKind, number>> = { holding: 0, bare: 0 }
const ONE: Readonly<Record<SpareKind, number>> = { holding: 1, bare: 0 }

/** What a pod begins with. */
export interface Taken {
  /** With it comes the directory of its state, which the caller removes. Rejects as startMonitor does. */
  readonly monitor: Promise<Monitor>
  /** The id of a container whose directories are there already. */
  readonly container: string | undefined
}

/**
 * Starts the monitors of pods. The program is opened once, since a mount costs about as much as the start, and a monitor waits for the next pod, with what that
 * needs on the disk; more of them where pods came faster than that, and of both kinds where pods of both have come lately. A spare lives by its connection: with the
 * daemon it ends by itself.
 */
export class Monitors {
  readonly #at: PodPaths
  /** Files of pods that are not there yet. */
  readonly #files: PodPaths
  readonly #warn: (text: string) => void
  #program: Fd | undefined
  readonly #spares: Spare[] = []
  #preparing: Promise<void> | undefined
  /** How many wait; 0 while the daemon starts and ends. */
  #wanted: Record<SpareKind, number> = { ...NONE }
  #timer: NodeJS.Timeout | undefined
  /** By performance.now(): since when the timer is put off. */
  #askedMs = 0
  /** Calls of starts that are under way. */
  #starts = 0
  #quiet: NodeJS.Timeout | undefined
  /** That none could be started is told once. */
  #hasFailed = false

  constructor(roots: Roots, warn: (text: string) => void) {
    this.#at = podPaths(roots)
    this.#files = podPaths({ ...roots, root: this.#at.spareRoot })
    this.#warn = warn
  }

  /** Of a pod that is about to take() its monitor: that of one that waits, where one does. */
  nextId(kind: SpareKind): string {
    return this.#spares.find((spare) => spare.kind === kind)?.id ?? newId()
  }

  /** Whether one waits that has this id. */
  isSpare(id: string): boolean {
    return this.#spares.some((spare) => spare.id === id)
  }

  /** Makes the directories of a pod, on the disk and of its monitor's state, where none waits with them. */
  take(id: string, kind: SpareKind): Taken {
    const directory = this.#at.monitor(id)
    const spare = this.#spares.find((each) => each.id === id)
    // It has come before another one could wait.
    const isBurst = this.#timer !== undefined || this.#preparing !== undefined
    const wanted = this.#wanted[kind]
    if (!spare && this.#isOn && (isBurst || wanted === 0))
      this.#wanted[kind] = Math.min(wanted + 1, SPARES_MAX)
    this.#prepareSoon()
    if (spare && isMonitorAlive(this.#at.spare(id))) {
      const container = this.#takeFiles(spare)
      renameSync(this.#at.spare(id), directory)
      this.#spares.splice(this.#spares.indexOf(spare), 1)
      return { monitor: Promise.resolve(spare.monitor), container }
    }
    // Its connection has not told yet; or somebody has removed its directory.
    if (spare) this.#drop(spare)
    makePodDirectories(this.#at, id)
    mkdirSync(directory, { mode: 0o700 })
    return { monitor: this.#start(directory), container: undefined }
  }

  #takeFiles({ id, container }: Spare): string | undefined {
    try {
      renameSync(this.#files.pod(id), this.#at.pod(id))
      return container
    } catch (error) {
      // Somebody has tidied up.
      if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
      makePodDirectories(this.#at, id)
      return undefined
    }
  }

  /** A call of a start is under way until the end of this. */
  starting(): Disposable {
    this.#starts++
    return {
      [Symbol.dispose]: () => {
        this.#starts--
        if (this.#timer) this.#wake()
      },
    }
  }

  /** From now on one monitor waits, or more. */
  keepSpare(): void {
    this.#wanted = { ...ONE }
    this.#prepareSoon()
  }

  /** Those that wait end. */
  async end(): Promise<void> {
    this.#wanted = { ...NONE }
    clearTimeout(this.#timer)
    this.#timer = undefined
    clearTimeout(this.#quiet)
    await this.#preparing
    await this.#discardAbove(NONE)
    this.#program?.close()
    this.#program = undefined
  }

  /** Removes what those that waited for a daemon that was killed have left. */
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
    this.#remove(this.#at.spareRoot)
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
    if (!this.#isOn) return
    this.#askedMs = performance.now()
    this.#wake()
    clearTimeout(this.#quiet)
    this.#quiet = setTimeout(() => {
      this.#wanted = { ...ONE }
      void this.#discardAbove(ONE)
    }, QUIET_MS).unref()
  }

  #wake(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      if (this.#starts > 0 && performance.now() - this.#askedMs < SPARE_WITHIN_MS)
        return this.#wake()
      this.#timer = undefined
      // One that is under way may just be failing for a reason that has passed since.
      const preparing = (this.#preparing ?? Promise.resolve())
        .then(() => this.#prepare())
        .finally(() => {
          if (this.#preparing === preparing) this.#preparing = undefined
        })
      this.#preparing = preparing
    }, SPARE_AFTER_MS).unref()
  }

  /** Until enough wait, or a pod comes: that goes first. */
  async #prepare(): Promise<void> {
    while (this.#timer === undefined) {
      const kind = KINDS.find((each) => this.#count(each) < this.#wanted[each])
      if (kind === undefined || !(await this.#prepareOne(kind))) return
    }
  }

  get #isOn(): boolean {
    return KINDS.some((kind) => this.#wanted[kind] > 0)
  }

  #count(kind: SpareKind): number {
    return this.#spares.filter((spare) => spare.kind === kind).length
  }

  /** Whether one more waits. */
  async #prepareOne(kind: SpareKind): Promise<boolean> {
    const id = newId()
    const directory = this.#at.spare(id)
    try {
      // Also those of all spares: somebody may have removed them.
      for (const path of [directory, this.#files.pods])
        mkdirSync(path, { recursive: true, mode: 0o700 })
      const container = newId()
      // First: a monitor that is started is known to nobody until it waits.
      await prepareFiles(this.#files, id, container)
      const monitor = await this.#start(directory)
      // A kernel that cannot is told of by the pod, and so is a monitor that hangs.
      if (kind === 'holding') {
        const held = monitor.holdNamespaces(HELD_AHEAD, { aside: true })
        await within(MONITOR_ANSWER_MS, held).catch(() => {})
      }
      const spare = { id, kind, monitor, container }
      this.#spares.push(spare)
      this.#hasFailed = false
      void spare.monitor.lost.then(() => {
        if (this.#spares.includes(spare)) this.#drop(spare)
      })
      return true
    } catch (error) {
      this.#removeBoth(id)
      // Each pod tries again, and starts its own.
      if (!this.#hasFailed) this.#warn(`no monitor waits for the next pod: ${describe(error)}`)
      this.#hasFailed = true
      return false
    }
  }

  /** It is no pod's any more; where it lives it ends with its connection. */
  #drop(spare: Spare): void {
    this.#spares.splice(this.#spares.indexOf(spare), 1)
    spare.monitor.close()
    this.#removeBoth(spare.id)
  }

  #removeBoth(id: string): void {
    for (const path of [this.#at.spare(id), this.#files.pod(id)]) this.#remove(path)
  }

  #remove(directory: string): void {
    try {
      rmSync(directory, { recursive: true, force: true })
    } catch (error) {
      if (!isErrno(error, 'ENOTDIR')) this.#warn(`cannot remove ${directory}: ${describe(error)}`)
    }
  }

  async #discardAbove(counts: Readonly<Record<SpareKind, number>>): Promise<void> {
    const above = KINDS.flatMap((kind) =>
      this.#spares.filter((spare) => spare.kind === kind).slice(counts[kind]),
    )
    for (const spare of above) this.#spares.splice(this.#spares.indexOf(spare), 1)
    await Promise.all(above.map((spare) => this.#discard(spare)))
  }

  async #discard({ id, monitor }: Spare): Promise<void> {
    try {
      using known = monitor
      await within(MONITOR_ANSWER_MS, known.quit())
      await within(MONITOR_ANSWER_MS, known.lost)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      if (error.code === 'DEADLINE_EXCEEDED') killMonitor(this.#at.spare(id), id, this.#warn)
      else if (error.code !== 'UNAVAILABLE') this.#warn(`spare monitor ${id}: ${describe(error)}`)
    }
    this.#removeBoth(id)
  }
}
