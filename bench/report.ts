/** What a suite has measured, as rows: printed for a reader, and handed on as JSON to `bench/all.ts`. */
import { writeFileSync } from 'node:fs'

const ERROR_CHARACTERS = 300
/** Between two lines of one step. */
const STEP_MS = 2000
let lastMs = Number.NEGATIVE_INFINITY

/** Where a suite is, on stderr: the next step at once, or how far it is in the same. */
export function progress(
  step: string,
  part?: { readonly done: number; readonly of: number },
): void {
  const now = performance.now()
  if (part !== undefined && now - lastMs < STEP_MS) return
  lastMs = now
  const clock = new Date().toTimeString().slice(0, 8)
  process.stderr.write(`${clock} ${step}${part ? ` ${part.done}/${part.of}` : ''}\n`)
}

/** Fewer say nothing. */
const ROUNDS_MIN = 3

/** The rounds of a step, those below 0 to warm up; not all where they take longer than so many seconds. */
export function* rounds(
  step: string,
  options: { readonly count: number; readonly warmUp: number; readonly seconds: number },
): Generator<number> {
  const { count, warmUp, seconds } = options
  progress(step)
  const until = performance.now() + seconds * 1000
  for (let round = -warmUp; round < count; round++) {
    if (round >= ROUNDS_MIN && performance.now() > until) {
      progress(`${step}: ${round} rounds of ${count}, for the time`)
      return
    }
    progress(step, { done: round + warmUp, of: count + warmUp })
    yield round
  }
}

/** All of them, in each round beginning with another one: what else the machine does hits all alike. */
export function turned<T>(all: readonly T[], round: number): T[] {
  const first = all.length === 0 ? 0 : ((round % all.length) + all.length) % all.length
  return [...all.slice(first), ...all.slice(0, first)]
}

/** What a reader of the figures has to know, such as who is not measured, and why; told at once and again with the tables. */
const notes: string[] = []

export function leftOut(what: string, reason: unknown): void {
  const text = reason instanceof Error ? reason.message : String(reason)
  told(`${what}: left out: ${text.trim().replace(/\s+/g, ' ').slice(0, ERROR_CHARACTERS)}`)
}

export function told(note: string): void {
  if (notes.includes(note)) return
  notes.push(note)
  process.stderr.write(`${note}\n`)
}

/** Names and versions of runtimes that the bench has not installed. */
const peers: string[] = []

export function toldPeer(name: string): void {
  peers.push(name)
}

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

const isCompetitor = (subject: string): boolean => subject !== FLOOR && subject !== TOOLS

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
    .filter(([name, values]) => !isOurs(name) && isCompetitor(name) && values.length > 0)
    .map(([name, values]) => ({ name, value: median(values) }))
    .sort((a, b) => sign * (a.value - b.value))[0]
}

/** By the median, the best first; the kernel and plain tools, nobody's peers, before all. */
export function ranked(row: Row): { name: string; values: readonly number[]; place?: number }[] {
  const sign = isMoreBetter(row) ? -1 : 1
  const all = Object.entries(row.of).map(([name, values]) => ({ name, values }))
  const measures = all.filter(({ name }) => !isCompetitor(name))
  const others = all.filter(({ name, values }) => isCompetitor(name) && values.length > 0)
  others.sort((a, b) => sign * (median(a.values) - median(b.values)))
  return [...measures, ...others.map((one, at) => ({ ...one, place: at + 1 }))]
}

/** As tables: median and, of enough values, the 95th percentile of each subject, and what it is of the best peer and of the floor; the best first. */
export function tableOf(rows: readonly Row[]): string {
  return rows.map(oneTable).join('\n')
}

function oneTable(row: Row): string {
  const best = bestPeer(row)
  const floor = median(row.of[FLOOR] ?? [])
  const ratio = (value: number, to: number | undefined) =>
    to === undefined || Number.isNaN(to) ? '' : `${(value / to).toFixed(2)}x`
  const lines = ranked(row).map(({ name, values, place }) => {
    const middle = median(values)
    const p95 = values.length >= 5 ? number(quantile(values, isMoreBetter(row) ? 0.05 : 0.95)) : ''
    const ofBest = place === undefined ? '' : ratio(middle, best?.value)
    const rank = place === undefined ? '' : `${place}.`
    return [rank, name, number(middle), p95, ofBest, ratio(middle, floor)]
  })
  const head = [
    '',
    `${row.work} (${row.unit})`,
    'median',
    'p95',
    best ? `of ${best.name}` : '',
    Number.isNaN(floor) ? '' : 'of the floor',
  ]
  return `${aligned([head, ...lines], 2)}\n`
}

export interface Summary {
  readonly subject: string
  readonly is: string
  /** The best peer and its median; all of these empty where there is none. */
  readonly best: string
  readonly ratio: string
  /** Of how many. */
  readonly place: string
  readonly floor: string
}

/** One line for each way of ours. */
export function summaryOf(row: Row): Summary[] {
  const best = bestPeer(row)
  const all = ranked(row)
  const last = all.filter(({ place }) => place !== undefined).length
  const floor = median(row.of[FLOOR] ?? [])
  return all
    .filter(({ name }) => isOurs(name))
    .map(({ name, values, place }) => {
      const is = median(values)
      return {
        subject: name,
        is: number(is),
        best: best ? `${best.name} ${number(best.value)}` : '',
        ratio: best ? `${(is / best.value).toFixed(2)}x` : '',
        place: best ? `${place} of ${last}` : '',
        floor: Number.isNaN(floor) ? '' : `${(is / floor).toFixed(2)}x`,
      }
    })
}

/** Three digits that count. */
export function number(value: number): string {
  if (Number.isNaN(value)) return ''
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** Columns of one width; the first ones to the left. */
export function aligned(lines: readonly (readonly string[])[], left = 1): string {
  const widths = (lines[0] ?? []).map((_, at) =>
    Math.max(...lines.map((line) => (line[at] ?? '').length)),
  )
  const width = (at: number) => widths[at] ?? 0
  return lines
    .map((line) =>
      line
        .map((cell, at) => (at < left ? cell.padEnd(width(at)) : cell.padStart(width(at))))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** What a suite hands to `bench/all.ts`. */
export interface Report {
  readonly rows: readonly Row[]
  readonly notes: readonly string[]
  readonly peers: readonly string[]
}

/** The end of a suite, also of one that has failed: its table, and its rows in the file of `--json`. */
export function report(rows: readonly Row[], json: string | undefined): void {
  process.stdout.write(`\n${tableOf(rows)}`)
  if (notes.length > 0) process.stdout.write(`\n${notes.join('\n')}\n`)
  const text: Report = { rows, notes, peers }
  if (json !== undefined) writeFileSync(json, JSON.stringify(text))
}
