import { formatDuration, parseDuration } from '../base/duration.ts'
import { Fault } from '../base/fault.ts'

/** A value as TOML has it. */
export type TomlValue = string | number | boolean | readonly string[]

/** When a changed value takes effect: at a reload (SIGHUP), or at the next start of the daemon. */
export type TakesEffect = 'reload' | 'restart'

/** One key of the configuration. */
export interface Setting<T> {
  readonly fallback: T
  readonly takesEffect: TakesEffect
  /** Throws a Fault with the reason alone: the caller names file and key. */
  readonly read: (value: unknown) => T
  readonly write: (value: T) => TomlValue
}

/** The values of a tree of settings. */
export type Values<Tree> = {
  readonly [Name in keyof Tree]: Tree[Name] extends Setting<infer T> ? T : Values<Tree[Name]>
}

/** More entries than any list of a configuration needs. */
const LIST_LENGTH_MAX = 1024
const TEXT_LENGTH_MAX = 4096

function refuse(reason: string): never {
  throw new Fault('INVALID_ARGUMENT', reason)
}

function readText(value: unknown): string {
  if (typeof value !== 'string') refuse('it must be text')
  if (value.length > TEXT_LENGTH_MAX) refuse(`it is longer than ${TEXT_LENGTH_MAX} characters`)
  if (/\p{Cc}/u.test(value)) refuse('it holds control characters')
  return value
}

/** Text that `check` accepts; it throws a Fault with the reason. */
export function text(
  fallback: string,
  takesEffect: TakesEffect,
  check: (text: string) => unknown,
): Setting<string> {
  return {
    fallback,
    takesEffect,
    read: (value) => {
      const given = readText(value)
      check(given)
      return given
    },
    write: (value) => value,
  }
}

export function choice<const T extends string>(
  fallback: NoInfer<T>,
  takesEffect: TakesEffect,
  known: readonly T[],
): Setting<T> {
  return {
    fallback,
    takesEffect,
    read: (value) => {
      const found = known.find((each) => each === value)
      return found ?? refuse(`known are ${known.map((each) => `"${each}"`).join(', ')}`)
    },
    write: (value) => value,
  }
}

export function flag(fallback: boolean, takesEffect: TakesEffect): Setting<boolean> {
  return {
    fallback,
    takesEffect,
    read: (value) => (typeof value === 'boolean' ? value : refuse('it must be true or false')),
    write: (value) => value,
  }
}

export function integer(
  fallback: number,
  takesEffect: TakesEffect,
  range: { readonly min: number; readonly max: number },
): Setting<number> {
  return {
    fallback,
    takesEffect,
    read: (value) => {
      if (typeof value !== 'number' || !Number.isInteger(value)) refuse('it must be a whole number')
      if (value < range.min || value > range.max) {
        refuse(`it must be from ${range.min} to ${range.max}`)
      }
      return value
    },
    write: (value) => value,
  }
}

/** Milliseconds here, text such as "90s" or "4h" in the file. `zero`: "0s" is taken too, and switches off. */
export function duration(
  fallback: number,
  takesEffect: TakesEffect,
  range: { readonly min: number; readonly max: number; readonly zero?: true },
): Setting<number> {
  return {
    fallback,
    takesEffect,
    read: (value) => {
      const ns = typeof value === 'string' ? parseDuration(value) : undefined
      if (ns === undefined) refuse('it must be a duration as text, such as "90s" or "4h"')
      const ms = Number(ns / 1_000_000n)
      if (ms === 0 && range.zero && ns === 0n) return 0
      if (ms < range.min || ms > range.max) {
        const off = range.zero ? ', or "0s" for none' : ''
        refuse(`it must be from ${formatDuration(range.min)} to ${formatDuration(range.max)}${off}`)
      }
      return ms
    },
    write: formatDuration,
  }
}

/** A list of texts, each as `read` makes it. A later file's list replaces an earlier one's. */
export function list<T extends string>(
  fallback: readonly T[],
  takesEffect: TakesEffect,
  read: (text: string) => T,
): Setting<readonly T[]> {
  return {
    fallback,
    takesEffect,
    read: (value) => {
      if (!Array.isArray(value)) refuse('it must be a list of text')
      if (value.length > LIST_LENGTH_MAX) refuse(`it has more than ${LIST_LENGTH_MAX} entries`)
      return value.map((each) => read(readText(each)))
    },
    write: (value) => value,
  }
}
