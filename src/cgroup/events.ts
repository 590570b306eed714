import { join } from 'node:path'
import { readFileIfAny } from '../base/file.ts'

/** Counters of memory.events since the group was made. */
export interface MemoryEvents {
  /** Reclaimed below the group's protection. */
  readonly low: number
  readonly high: number
  /** Was about to go over memory.max. */
  readonly max: number
  /** The limit was hit and nothing could be reclaimed. */
  readonly oom: number
  /** Processes of the group killed by any OOM killer. */
  readonly oomKill: number
  /** Times the whole group was killed at once (memory.oom.group). */
  readonly oomGroupKill: number
}

/** A group's memory.events with those of the groups below it; undefined without the memory controller or the group. */
export function readMemoryEvents(directory: string): MemoryEvents | undefined {
  const text = readFileIfAny(join(directory, 'memory.events'))
  return text === undefined ? undefined : parseMemoryEvents(text)
}

export function parseMemoryEvents(text: string): MemoryEvents {
  const values = parseFlat(text)
  const of = (key: string): number => Number(values.get(key) ?? 0n)
  return {
    low: of('low'),
    high: of('high'),
    max: of('max'),
    oom: of('oom'),
    oomKill: of('oom_kill'),
    // Linux 5.17.
    oomGroupKill: of('oom_group_kill'),
  }
}

/** A flat keyed kernel file: `KEY VALUE` lines. Lines of another form are left out. */
export function parseFlat(text: string): Map<string, bigint> {
  const values = new Map<string, bigint>()
  for (const line of text.split('\n')) {
    const [, key, value] = /^(\S+) (\d{1,20})$/.exec(line) ?? []
    if (key !== undefined && value !== undefined) values.set(key, BigInt(value))
  }
  return values
}
