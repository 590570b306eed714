import { parseDuration } from '../../base/duration.ts'
import { Fault } from '../../base/fault.ts'

export { parseDuration }

/**
 * A moment in nanoseconds since 1970: a duration before now (10m), seconds since 1970 (1700000000.5), or a date
 * (RFC 3339; without a zone it is local time).
 */
export function parseMoment(text: string, nowMs: number): bigint {
  const before = parseDuration(text)
  if (before !== undefined) return BigInt(Math.round(nowMs)) * 1_000_000n - before
  const seconds = /^(\d+)(?:\.(\d{1,9}))?$/.exec(text)
  if (seconds && (seconds[1] ?? '').length > 4) {
    return BigInt(seconds[1] ?? '0') * 1_000_000_000n + fraction(seconds[2])
  }
  const ns = parseTimestamp(text)
  if (ns !== undefined) return ns
  throw new Fault(
    'INVALID_ARGUMENT',
    `"${text}" is no time: a duration before now (10m), a date (2026-01-31T12:00:00Z) or seconds since 1970`,
  )
}

/** Nanoseconds since 1970 of an RFC 3339 date with up to nine digits of fraction; undefined where it is none. */
export function parseTimestamp(text: string): bigint | undefined {
  const match =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:\d\d)?$/.exec(
      text,
    )
  if (!match) return undefined
  const [, date, time = '00:00', seconds = '00', part, zone = ''] = match
  const ms = Date.parse(`${date}T${time}:${seconds}${zone}`)
  return Number.isNaN(ms) ? undefined : BigInt(ms) * 1_000_000n + fraction(part)
}

function fraction(digits: string | undefined): bigint {
  return BigInt((digits ?? '').padEnd(9, '0').slice(0, 9))
}
