/**
 * The runs so far, kept in bench/history.json, and their picture in docs/performance.svg: for each wanted figure, where it was and where it is to be. The last
 * one's figures are written into docs/performance.md, between two marks.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../test/lib/images.ts'
import { number, type Row, summaryOf } from './report.ts'
import type { Judged } from './required.ts'

interface Run {
  readonly date: string
  readonly commit: string
  readonly machine: string
  readonly quick: boolean
  readonly figures: readonly Judged[]
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
  const git = ['-C', REPOSITORY, 'rev-parse', '--short', 'HEAD']
  const runs: Run[] = [
    ...before,
    {
      date: new Date().toISOString().slice(0, 16),
      commit: execFileSync('git', git, { encoding: 'utf8' }).trim(),
      machine: run.machine,
      quick: run.quick,
      figures: run.judged.filter(({ value }) => value !== undefined),
    },
  ]
  writeFileSync(HISTORY, `${JSON.stringify(runs, undefined, 2)}\n`)
  writeFileSync(PICTURE, picture(runs))
  const last = runs.at(-1)
  if (last)
    writeFileSync(PAGE, withSection(readFileSync(PAGE, 'utf8'), section(last, run.rows, run.notes)))
}

/** The page with the text between its marks. */
export function withSection(page: string, text: string): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin) throw new Error(`${PAGE} has lost the marks of bench --record`)
  return `${page.slice(0, begin)}${BEGIN}\n\n${text}\n${page.slice(end)}`
}

function section(run: Run, rows: readonly Row[], notes: readonly string[]): string {
  const wanted = run.figures.map(
    (figure) =>
      `| ${figure.what} | ${isOf(figure)} | ${wantedOf(figure)} | ${figure.isMet ? 'met' : 'missed'} |`,
  )
  const works = rows.flatMap((row) =>
    summaryOf(row).map(
      ({ subject, is, best, ratio, place, floor }) =>
        `| ${row.work} (${row.unit}) | ${subject} | ${is} | ${best} | ${ratio} | ${place} | ${floor} |`,
    ),
  )
  return `![each wanted figure, run by run](performance.svg)

The last run: ${run.date.replace('T', ' ')}, ${run.quick ? 'quick, ' : ''}${run.commit}, ${run.machine}. Medians; ratios are to the best peer.

| wanted | is | | |
| --- | ---: | ---: | --- |
${wanted.join('\n')}

All works, and berth's place among all that did them:

| work | ours | is | best peer | ratio | place | of the kernel's floor |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
${works.join('\n')}
${notes.length > 0 ? `\n${notes.map((note) => `- ${note}`).join('\n')}\n` : ''}`
}

const unitOf = ({ unit }: Judged): string => (unit === 'x' ? 'x' : ` ${unit}`)
const isOf = (figure: Judged): string => `${number(figure.value ?? Number.NaN)}${unitOf(figure)}`
const wantedOf = (figure: Judged): string =>
  `${figure.most === undefined ? 'at least' : 'at most'} ${figure.most ?? figure.least}${unitOf(figure)}`

const WIDTH = 900
const ROW = 44
const TOP = 30
const LEFT = 330
const RIGHT = 150
/** Of the wanted value: what is beyond is drawn at the edge. */
const LOW = 0.1
const HIGH = 10

/** A line for each figure: what it was of the wanted one, on a logarithmic scale with the wanted one in the middle, by runs from left to right. */
export function picture(runs: readonly Run[]): string {
  const names = [...new Set(runs.flatMap(({ figures }) => figures.map(({ what }) => what)))]
  const height = TOP + ROW * names.length + 10
  const rows = names.map((what, at) => oneFigure(what, runs, TOP + ROW * at)).join('\n')
  const last = runs.at(-1)
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="${WIDTH}" height="${height}" fill="white"/>
<text x="10" y="18" fill="#555">${escaped(`${runs.length} runs to ${last?.date ?? ''}; below each dashed line is better than wanted`)}</text>
${rows}
</svg>
`
}

function oneFigure(what: string, runs: readonly Run[], top: number): string {
  const values = runs.flatMap((run, at) => {
    const figure = run.figures.find((one) => one.what === what)
    return figure?.value === undefined ? [] : [{ at, figure, share: shareOf(figure) }]
  })
  const x = (at: number) => LEFT + ((at + 1) / (runs.length + 1)) * (WIDTH - LEFT - RIGHT)
  const y = (share: number) => {
    const bound = Math.min(HIGH, Math.max(LOW, share))
    return top + (ROW - 8) * (1 - Math.log(bound / LOW) / Math.log(HIGH / LOW))
  }
  const points = values.map(({ at, share }) => `${x(at).toFixed(1)},${y(share).toFixed(1)}`)
  const last = values.at(-1)?.figure
  const color = last?.isMet === true ? '#2a7' : '#c43'
  const wanted = `${last?.most ?? last?.least}${last?.unit}`
  const is = `${number(last?.value ?? Number.NaN)}${last?.unit} (${last?.most === undefined ? '≥' : '≤'} ${wanted})`
  const dots = points.map((point) => {
    const [cx, cy] = point.split(',')
    return `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${color}"/>`
  })
  return `<text x="10" y="${top + ROW / 2}">${escaped(what)}</text>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(1).toFixed(1)}" y2="${y(1).toFixed(1)}" stroke="#bbb" stroke-dasharray="4"/>
<polyline points="${points.join(' ')}" fill="none" stroke="${color}"/>${dots.join('')}
<text x="${WIDTH - RIGHT + 8}" y="${top + ROW / 2}" fill="${color}">${escaped(is)}</text>`
}

/** What the value is of the wanted one; of throughput the other way round, so that less is better everywhere. */
function shareOf({ value = Number.NaN, most, least }: Judged): number {
  return most === undefined ? (least ?? 1) / value : value / most
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
