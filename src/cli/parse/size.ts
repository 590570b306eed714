import { Fault } from '../../base/fault.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  p: 1024 ** 5,
}

/** Bytes of a size as docker writes it: 64m, 1.5g, 512k, 1024, also 64mb and 64MiB. All units are powers of 1024. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:ib|b)?$/i.exec(text)
  const unit = UNITS[match?.[2]?.toLowerCase() ?? '']
  const bytes = match && unit !== undefined ? Math.floor(Number(match[1]) * unit) : Number.NaN
  if (Number.isSafeInteger(bytes)) return bytes
  throw new Fault(
    'INVALID_ARGUMENT',
    `"${text}" is no size: a number with b, k, m or g, such as 64m`,
  )
}

/** As parseSize; -1 means without limit. */
export function parseSizeOrUnlimited(text: string): number {
  return text === '-1' ? -1 : parseSize(text)
}

/** A whole number within bounds, decimal. */
export function parseInteger(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
    if (value >= minimum && value <= maximum) return value
    const top =
      maximum === Number.MAX_SAFE_INTEGER ? `${minimum} or more` : `${minimum} to ${maximum}`
    throw new Fault('INVALID_ARGUMENT', `"${text}" is no whole number of ${top}`)
  }
}

/** A number of processors: 0.5, 2. */
export function parseCpus(text: string): number {
  const value = /^\d+(\.\d+)?$|^\.\d+$/.test(text) ? Number(text) : Number.NaN
  // 10 ms of every 1 s is the least that the kernel's scheduler takes as a quota.
  if (value >= 0.01 && value <= 65_536) return value
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no number of processors, such as 0.5 or 2`)
}

/** Permission bits in octal, such as 022. */
export function parseOctal(text: string): number {
  if (/^0?[0-7]{1,4}$/.test(text)) return Number.parseInt(text, 8)
  throw new Fault('INVALID_ARGUMENT', `"${text}" is no octal number, such as 022`)
}
