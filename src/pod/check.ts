import { Fault } from '../base/fault.ts'
import { ID_MAX, invalid, list, show } from '../plan/check.ts'
import type { IDMapping } from '../spec/cri.ts'
import type { IdMapping } from '../spec/runtime.ts'

/** The largest value of an int64 field that we calculate with; beyond it a JavaScript number is no longer exact. */
const WHOLE_MAX = Number.MAX_SAFE_INTEGER
/** setgroups(2) refuses more. */
const GROUPS_MAX = 65536
const WARNINGS_MAX = 1024

/** An int64 field of the wire, which is text there, as a number. */
export function whole(
  field: string,
  value: string,
  minimum: number,
  maximum: number = WHOLE_MAX,
): number {
  const number = /^-?\d{1,19}$/.test(String(value)) ? Number(value) : Number.NaN
  if (Number.isNaN(number) || number < minimum || number > maximum) {
    throw invalid(field, `${show(value)} is not a whole number from ${minimum} to ${maximum}`)
  }
  return number
}

export function userId(field: string, value: string): number {
  return whole(field, value, 0, ID_MAX)
}

export function groupIds(field: string, values: readonly string[]): number[] {
  return list(field, values, GROUPS_MAX).map((value, i) => userId(`${field}[${i}]`, value))
}

/** Runs what knows no CRI, and puts the name of the CRI's field before what it refuses. */
export function within<T>(field: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    throw new Fault(error.code, `${field}: ${error.message}`, { cause: error })
  }
}

export function idMapping({ containerId, hostId, length }: IDMapping): IdMapping {
  return { containerID: containerId, hostID: hostId, size: length }
}

/** A `warn` that says each thing once: what a host lacks is the same for every container of a daemon. */
export function onceEach(warn: (message: string) => void): (message: string) => void {
  const told = new Set<string>()
  return (message) => {
    if (told.has(message)) return
    if (told.size < WARNINGS_MAX) told.add(message)
    warn(message)
  }
}
