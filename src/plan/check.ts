import { posix } from 'node:path'
import { Fault } from '../base/fault.ts'

/** The kernel's PATH_MAX, its NUL included. */
export const PATH_BYTES_MAX = 4096
/** MAX_ARG_STRLEN: the longest single argument or variable that execve(2) takes, its NUL included. */
export const ARGUMENT_BYTES_MAX = 131072
/** 2^32-1 means "leave as it is" to the kernel's id calls, so it is no id. */
export const ID_MAX = 2 ** 32 - 2

/** What berth knows and does not do yet. */
export function unsupported(field: string, reason?: string): Fault {
  return new Fault('UNIMPLEMENTED', `${field} is not supported${reason ? `: ${reason}` : ''}`)
}

export function invalid(field: string, reason: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${field}: ${reason}`)
}

/** A value that is not what its field holds; `reason` follows it. One that is not there is no wrong value. */
export function unfit(field: string, value: unknown, reason: string): Fault {
  return invalid(field, value === undefined ? 'is missing' : `${show(value)} ${reason}`)
}

/** What this host cannot do, or not with what else is asked. */
export function impossible(field: string, reason: string): Fault {
  return new Fault('FAILED_PRECONDITION', `${field}: ${reason}`)
}

export function integer(field: string, value: unknown, minimum: number, maximum: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum) {
    throw unfit(field, value, `is not a whole number from ${minimum} to ${maximum}`)
  }
  return value
}

/** Text without NUL, which would end it early in every C string on its way. */
export function text(field: string, value: unknown, bytesMax: number): string {
  if (typeof value !== 'string') throw unfit(field, value, 'is not text')
  if (value.includes('\0')) throw invalid(field, 'holds a NUL byte')
  if (Buffer.byteLength(value) >= bytesMax) {
    throw invalid(field, `is longer than ${bytesMax - 1} bytes`)
  }
  return value
}

/** An absolute path without `.`, `..`, doubled or trailing slashes. */
export function absolute(field: string, value: unknown): string {
  const path = text(field, value, PATH_BYTES_MAX)
  if (!path.startsWith('/')) throw invalid(field, `${show(path)} is not an absolute path`)
  return clean(path)
}

/** Lexical only; the native side resolves links below the container's root. */
export function clean(path: string): string {
  const normal = posix.normalize(path)
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal
}

export function list<T>(
  field: string,
  value: readonly T[] | undefined | null,
  maximum: number,
): readonly T[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw invalid(field, 'is not a list')
  if (value.length > maximum) throw invalid(field, `has more than ${maximum} entries`)
  return value
}

/** A value as part of a message: quoted, so that nothing in it looks like ours, and short. */
export function show(value: unknown): string {
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return shown.length > 80 ? `${shown.slice(0, 77)}…` : shown
}
