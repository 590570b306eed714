import { Fault } from '../base/fault.ts'

/** Entries of a list of texts. */
const LIST_MAX = 65_536

export type Fields = Record<string, unknown>

export function bad(what: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${what} is not valid: ${why}`)
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** JSON of an object; bytes over the limit, other JSON and no JSON are refused naming `what`. */
export function parseObject(bytes: Uint8Array, bytesMax: number, what: string): Fields {
  if (bytes.length > bytesMax) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `${what} has ${bytes.length} bytes; the limit is ${bytesMax}`,
    )
  }
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${what} is not valid JSON`, { cause: error })
  }
  if (!isObject(value)) throw bad(what, 'it is no JSON object')
  return value
}

/** A field's value where there is one: Go writes an empty field as null, so null is absent. */
export function own(fields: Fields, name: string): unknown {
  return Object.hasOwn(fields, name) ? (fields[name] ?? undefined) : undefined
}

export function text(fields: Fields, name: string, what: string): string | undefined {
  const value = own(fields, name)
  if (value === undefined || typeof value === 'string') return value
  throw bad(what, `${name} must be text`)
}

export function flag(fields: Fields, name: string, what: string): boolean | undefined {
  const value = own(fields, name)
  if (value === undefined || typeof value === 'boolean') return value
  throw bad(what, `${name} must be true or false`)
}

export function object(fields: Fields, name: string, what: string): Fields | undefined {
  const value = own(fields, name)
  if (value === undefined || isObject(value)) return value
  throw bad(what, `${name} must be an object`)
}

export function list(
  fields: Fields,
  name: string,
  what: string,
  max: number,
): unknown[] | undefined {
  const value = own(fields, name)
  if (value === undefined) return undefined
  if (!Array.isArray(value)) throw bad(what, `${name} must be a list`)
  if (value.length > max) {
    throw new Fault(
      'RESOURCE_EXHAUSTED',
      `${what} lists ${value.length} entries in ${name}; the limit is ${max}`,
    )
  }
  return value
}

export function texts(fields: Fields, name: string, what: string): string[] | undefined {
  return list(fields, name, what, LIST_MAX)?.map((value) => {
    if (typeof value !== 'string') throw bad(what, `${name} must hold text only`)
    return value
  })
}

export function textMap(
  fields: Fields,
  name: string,
  what: string,
): Record<string, string> | undefined {
  const value = object(fields, name, what)
  if (value === undefined) return undefined
  // fromEntries defines own properties, so a key "__proto__" is a key like any other.
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => {
      if (typeof entry !== 'string') throw bad(what, `${name} must map text to text`)
      return [key, entry]
    }),
  )
}

/** The object without what is undefined: `exactOptionalPropertyTypes` knows no present undefined. */
export function compact<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  for (const key of Object.keys(value) as (keyof T)[]) {
    if (value[key] === undefined) delete value[key]
  }
  return value as T
}

export type Loose<T> = { [K in keyof Required<T>]: T[K] | undefined }
