import { Fault } from '../base/fault.ts'

/** A field that no call can do without. */
export function missing(field: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${field} is missing`)
}

/** A 64-bit number of the wire as one that a program can count with. */
export function numberOf(field: string, text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number))
    throw new Fault('INVALID_ARGUMENT', `${field} is out of range: ${text}`)
  return number
}
