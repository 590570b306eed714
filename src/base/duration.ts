const NANOSECONDS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
}

/** Nanoseconds of a duration such as 90s, 1h30m, 1.5h; undefined where the text is none. */
export function parseDuration(text: string): bigint | undefined {
  if (!/^(\d+(\.\d+)?(ns|us|ms|s|m|h|d))+$/.test(text)) return undefined
  let total = 0n
  for (const [, number = '', , unit = ''] of text.matchAll(/(\d+(\.\d+)?)(ns|us|ms|s|m|h|d)/g)) {
    const one = NANOSECONDS[unit] ?? 0n
    const [whole = '0', part = ''] = number.split('.')
    const digits = part.slice(0, 9)
    total += BigInt(whole) * one + (BigInt(digits || '0') * one) / 10n ** BigInt(digits.length)
  }
  return total
}

/** Milliseconds as parseDuration reads them, in the largest unit that divides them: 4h, 90s, 0s. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  for (const [unit, size] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const) {
    if (ms % size === 0) return `${ms / size}${unit}`
  }
  return `${ms}ms`
}
