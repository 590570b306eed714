/** A column of a table: its title, and how a row's cell reads. */
export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  /** Numbers stand to the right. */
  readonly right?: boolean
}

/** Aligned columns with a line of titles; every line ends with a newline. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [
    columns.map((column) => column.title),
    ...rows.map((row) => columns.map((column) => clean(column.cell(row)))),
  ]
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => width(row[i] ?? ''))))
  return cells
    .map((row) => {
      const line = row.map((cell, i) => {
        const fill = ' '.repeat((widths[i] ?? 0) - width(cell))
        return columns[i]?.right ? fill + cell : cell + fill
      })
      return `${line.join('   ').trimEnd()}\n`
    })
    .join('')
}

/** At most `length` characters, the last an ellipsis where something is cut. */
export function truncate(text: string, length: number): string {
  const characters = [...text]
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`
}

/** Bytes for people: 0 B, 1.5 KiB, 64 MiB. */
export function humanBytes(bytes: number | bigint): string {
  return scaled(Number(bytes), 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'])
}

/** Bytes in decimal units, as images' sizes are told: 77.8 MB. */
export function decimalBytes(bytes: number | bigint): string {
  return scaled(Number(bytes), 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB'])
}

/** A span of time for people: 5 seconds, 2 minutes, 3 weeks. */
export function humanSpan(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const steps: [one: number, name: string, until: number][] = [
    [1, 'second', 60],
    [60, 'minute', 3600],
    [3600, 'hour', 48 * 3600],
    [86_400, 'day', 14 * 86_400],
    [7 * 86_400, 'week', 60 * 86_400],
    [30 * 86_400, 'month', 730 * 86_400],
    [365 * 86_400, 'year', Number.POSITIVE_INFINITY],
  ]
  for (const [one, name, until] of steps) {
    if (seconds >= until) continue
    const count = Math.floor(seconds / one)
    return `${count} ${name}${count === 1 ? '' : 's'}`
  }
  return `${seconds} seconds`
}

/** humanSpan of a moment in nanoseconds until now, with "ago". */
export function age(ns: string | bigint, nowMs: number): string {
  return `${humanSpan(nowMs - Number(BigInt(ns) / 1_000_000n))} ago`
}

/** The hexadecimal digits of an id or of a prefix of one. */
export function digitsOf(id: string): string {
  return id.replace(/^sha(?:256|512):/, '')
}

/** An id as tables show it: 12 digits, without the algorithm. */
export function shortId(id: string): string {
  return digitsOf(id).slice(0, 12)
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let rest = value
  let unit = 0
  while (rest >= base && unit < units.length - 1) {
    rest /= base
    unit++
  }
  const digits = unit === 0 || rest >= 100 ? 0 : rest >= 10 ? 1 : 2
  return `${Number(rest.toFixed(digits))} ${units[unit]}`
}

/** A container's name or command must not move the terminal's cursor. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) =>
    c === '\n' ? '\\n' : c === '\t' ? '\\t' : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

function width(text: string): number {
  return [...text].length
}
