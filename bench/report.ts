/** What a suite has measured, as rows: printed for a reader, and handed on as JSON to `bench/all.ts`. */
import { writeFileSync } from 'node:fs'

/** One work, with the values of each subject that did it. */
export interface Row {
  readonly suite: string
  readonly work: string
  readonly unit: 'ms' | 's' | 'MB/s' | 'KiB' | 'MB'
  /** Subjects by name, `berth` among them; a name that begins with `berth` is ours too, in another way. */
  readonly of: Readonly<Record<string, readonly number[]>>
}

/** What the kernel alone takes for the same work: no peer, and nobody can be below it. */
export const FLOOR = 'kernel floor'
/** The plainest tools for a pull: they verify nothing, and are no peer either. */
export const TOOLS = 'gunzip | tar x'

export function isOurs(subject: string): boolean {
  return subject.startsWith('berth')
}

/** The rows of a suite as they grow. */
export class Measured {
  readonly rows: {
    suite: string
    work: string
    unit: Row['unit']
    of: Record<string, number[]>
  }[] = []
  readonly #suite: string

  constructor(suite: string) {
    this.#suite = suite
  }

  add(work: string, unit: Row['unit'], subject: string, value: number): void {
    let row = this.rows.find((one) => one.work === work)
    if (!row) {
      row = { suite: this.#suite, work, unit, of: {} }
      this.rows.push(row)
    }
    row.of[subject] = [...(row.of[subject] ?? []), value]
  }

  /** Of a subject that failed in between: half of its values say nothing. */
  drop(work: string, subject: string): void {
    const row = this.rows.find((one) => one.work === work)
    if (row) delete row.of[subject]
  }
}

/** Milliseconds. */
export async function elapsed(act: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await act()
  return performance.now() - begin
}

export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Of throughput more is better, of all else less. */
export function isMoreBetter(row: Row): boolean {
  return row.unit === 'MB/s'
}

/** The peer with the best median; undefined where none was measured. */
export function bestPeer(row: Row): { name: string; value: number } | undefined {
  const sign = isMoreBetter(row) ? -1 : 1
  return Object.entries(row.of)
    .filter(
      ([name, values]) => !isOurs(name) && name !== FLOOR && name !== TOOLS && values.length > 0,
    )
    .map(([name, values]) => ({ name, value: median(values) }))
    .sort((a, b) => sign * (a.value - b.value))[0]
}

/** As tables: median and, of enough values, the 95th percentile of each subject, and what it is of the best peer and of the floor. */
export function tableOf(rows: readonly Row[]): string {
  return rows.map(oneTable).join('\n')
}

function oneTable(row: Row): string {
  const best = bestPeer(row)
  const floor = median(row.of[FLOOR] ?? [])
  const ratio = (value: number, to: number | undefined) =>
    to === undefined || Number.isNaN(to) ? '' : `${(value / to).toFixed(2)}x`
  const lines = Object.entries(row.of).map(([name, values]) => {
    const middle = median(values)
    const p95 = values.length >= 5 ? number(quantile(values, 0.95)) : ''
    const ofBest = name === FLOOR || name === TOOLS ? '' : ratio(middle, best?.value)
    return [name, number(middle), p95, ofBest, ratio(middle, floor)]
  })
  const head = [
    `${row.work} (${row.unit})`,
    'median',
    'p95',
    best ? `of ${best.name}` : '',
    Number.isNaN(floor) ? '' : 'of the floor',
  ]
  return `${aligned([head, ...lines])}\n`
}

/** Three digits that count. */
export function number(value: number): string {
  if (Number.isNaN(value)) return ''
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** Columns of one width; the first to the left. */
export function aligned(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, at) =>
    Math.max(...lines.map((line) => (line[at] ?? '').length)),
  )
  return lines
    .map((line) =>
      line
        .map((cell, at) =>
          at === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[at] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** The end of a suite: its table, and its rows in the file of `--json`. */
export function report(rows: readonly Row[], json: string | undefined): void {
  process.stdout.write(`\n${tableOf(rows)}`)
  if (json !== undefined) writeFileSync(json, JSON.stringify(rows))
}
