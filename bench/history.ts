/**
 * The runs so far, kept in bench/history.json, and their picture in docs/performance.svg: for each wanted figure, where it was and where it is to be. The last
 * one's figures are written into docs/performance.md, between two marks.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../test/lib/images.ts'
import { type Row, summaryOf } from './report.ts'
import { type Goals, isOf, type Judged, judgement, wantedOf } from './required.ts'

export interface Run {
  readonly date: string
  readonly commit: string
  readonly machine: string
  readonly quick: boolean
  readonly judged: readonly Judged[]
}

const HISTORY = join(REPOSITORY, 'bench/history.json')
const PICTURE = join(REPOSITORY, 'docs/performance.svg')
const PAGE = join(REPOSITORY, 'docs/performance.md')
const BEGIN = '<!-- bench --record: what stands between these marks is written by it -->'
const END = '<!-- end of bench --record -->'

export function record(run: {
  readonly machine: string
  readonly quick: boolean
  readonly judged: readonly Judged[]
  readonly rows: readonly Row[]
  readonly notes: readonly string[]
}): void {
  const before = existsSync(HISTORY) ? (JSON.parse(readFileSync(HISTORY, 'utf8')) as Run[]) : []
  const runs: Run[] = [
    ...before,
    {
      date: new Date().toISOString().slice(0, 16),
      commit: commit(),
      machine: run.machine,
      quick: run.quick,
      judged: run.judged,
    },
  ]
  writeFileSync(HISTORY, `${JSON.stringify(runs, undefined, 2)}\n`)
  writeFileSync(PICTURE, picture(runs))
  const last = runs.at(-1)
  if (last)
    writeFileSync(PAGE, withSection(readFileSync(PAGE, 'utf8'), section(last, run.rows, run.notes)))
}

/** Of another than what is committed, it says so. */
function commit(): string {
  const git = ['-C', REPOSITORY, 'describe', '--always', '--dirty', '--exclude=*']
  try {
    return execFileSync('git', git, { encoding: 'utf8' }).trim()
  } catch {
    return 'no commit'
  }
}

/** The page with the text between its marks. */
export function withSection(page: string, text: string): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`${PAGE} has lost the marks of bench --record`)
  return `${page.slice(0, begin)}${BEGIN}\n\n${text.trimEnd()}\n\n${page.slice(end)}`
}

export function section(run: Run, rows: readonly Row[], notes: readonly string[]): string {
  const works = rows.flatMap((row) =>
    summaryOf(row).map(({ subject, is, best, ratio, place, floor }) => [
      ...[`${row.work} (${row.unit})`, subject, is, best, ratio, place, floor],
    ]),
  )
  const head = ['work', 'ours', 'is', 'best peer', 'ratio', 'place', 'of the kernel floor']
  const told = notes.map((note) => `- ${cell(note)}\n`).join('')
  return `![each required figure, run by run](performance.svg)

The last run: ${run.date.replace('T', ' ')} UTC, ${run.quick ? 'quick, ' : ''}${run.commit}, on ${run.machine}. Medians; ratios are to the best peer.

${goalsOf(run, 'now')}

What was required on the way there:

${goalsOf(run, 'before')}

All works, and berth's place among all that did them:

${table(head, works, 2)}
${told && `\n${told}`}`
}

function goalsOf({ judged }: Run, goals: Goals): string {
  const [head = [], ...lines] = judgement(judged, goals)
  return table(head, lines, 1)
}

/** Columns after the first ones to the right. */
function table(head: readonly string[], lines: readonly (readonly string[])[], left: number) {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`
  const rule = head.map((_, at) => (at < left ? '---' : '---:'))
  return [line(head), line(rule), ...lines.map(line)].join('\n')
}

/** As text: a bar ends a cell, and `<` begins a tag. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
}

const WIDTH = 960
const ROW = 44
const TOP = 50
const LEFT = 330
const RIGHT = 200
/** Of the wanted value: what is beyond is drawn at the edge. */
const LOW = 0.1
const HIGH = 10

/** A line for each figure that counts now: what it was of the required one, on a logarithmic scale with that in the middle, by runs from left to right. */
export function picture(runs: readonly Run[]): string {
  const judged = runs.flatMap((run) => run.judged).filter(({ goals }) => goals === 'now')
  const names = [...new Set(judged.map(({ what }) => what))]
  const height = TOP + ROW * names.length + 10
  const rows = names.map((what, at) => oneFigure(what, runs, TOP + ROW * at)).join('\n')
  const last = runs.at(-1)
  const span = `${runs.length} ${runs.length === 1 ? 'run' : 'runs'} to ${last?.date.replace('T', ' ') ?? ''}`
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="white"/>
<text x="10" y="18" fill="#555">${escaped(`${span}; below each dashed line is better than required`)}</text>
<text x="10" y="34" font-size="9" fill="#555">${escaped(last?.machine ?? '')}</text>
${rows}
</svg>
`
}

function oneFigure(what: string, runs: readonly Run[], top: number): string {
  const values = runs.flatMap((run, at) => {
    const judged = run.judged.find((one) => one.goals === 'now' && one.what === what)
    return judged?.figure ? [{ at, judged, share: shareOf(judged) }] : []
  })
  const x = (at: number) => LEFT + ((at + 1) / (runs.length + 1)) * (WIDTH - LEFT - RIGHT)
  const y = (share: number) => {
    const bound = Math.min(HIGH, Math.max(LOW, share))
    return top + (ROW - 8) * (1 - Math.log(bound / LOW) / Math.log(HIGH / LOW))
  }
  const points = values.map(({ at, share }) => `${x(at).toFixed(1)},${y(share).toFixed(1)}`)
  const last = values.at(-1)?.judged
  const color = last?.isMet === true ? '#2a7' : last ? '#c43' : '#999'
  const is = last ? `${isOf(last)}, ${wantedOf(last)}` : 'not measured'
  const dots = points.map((point) => {
    const [cx, cy] = point.split(',')
    return `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${color}"/>`
  })
  return `<text x="10" y="${top + ROW / 2}">${escaped(what)}</text>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(1).toFixed(1)}" y2="${y(1).toFixed(1)}" stroke="#bbb" stroke-dasharray="4"/>
<polyline points="${points.join(' ')}" fill="none" stroke="${color}"/>${dots.join('')}
<text x="${WIDTH - RIGHT + 8}" y="${top + ROW / 2}" fill="${color}">${escaped(is)}</text>`
}

/** What the value is of the required one; of throughput the other way round, so that less is better everywhere. */
function shareOf({ figure, most, least }: Judged): number {
  const value = figure?.value ?? Number.NaN
  return most === undefined ? (least ?? 1) / value : value / most
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
