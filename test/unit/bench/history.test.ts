import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { picture, type Run, section, withSection } from '../../../bench/history.ts'
import type { Row } from '../../../bench/report.ts'
import { judge } from '../../../bench/required.ts'

const rows: readonly Row[] = [
  { suite: 'run', work: 'run --rm', unit: 'ms', of: { 'berth, daemon': [5], docker: [100] } },
]

const run = (of: readonly Row[]): Run => ({
  date: '2026-11-27T12:30',
  commit: 'f00',
  machine: '2 cores & more',
  quick: false,
  judged: judge(of),
})

const BEGIN = '<!-- bench --record: what stands between these marks is written by it -->'
const END = '<!-- end of bench --record -->'

test('only what is between the marks is replaced', () => {
  const page = `before\n${BEGIN}\nold\n${END}\nafter\n`
  const once = withSection(page, 'new')
  assert.is(once, `before\n${BEGIN}\n\nnew\n\n${END}\nafter\n`)
  assert.is(withSection(once, 'new'), once)
  assert.throws(() => withSection('no marks', 'new'), /lost the marks/)
})

test('each line of a table has as many cells as its head, whatever a note or a name says', () => {
  const note = 'docker: left out: a | b <c>'
  const tools = { ...rows[0], of: { berth: [1], 'gunzip | tar x': [2] } } as Row
  const text = section(run(rows), [...rows, tools], [note])
  for (const table of text.split('\n\n').filter((part) => part.startsWith('|'))) {
    const cells = table.split('\n').map((line) => line.split(/(?<!\\)\|/).length)
    assert.is(new Set(cells).size, 1, table)
  }
  assert.match(text, 'docker: left out: a \\| b &lt;c>')
  assert.match(text, '2026-11-27 12:30 UTC, f00, on 2 cores & more')
})

test('a figure that no run has measured is drawn without a point', () => {
  const svg = picture([run(rows), run([])])
  assert.match(svg, 'not measured')
  assert.match(svg, '0.050x, at most 0.1x')
  assert.match(svg, '2 cores &amp; more')
  assert.not.match(svg, 'NaN')
  assert.is(svg.match(/<circle/g)?.length, 1)
})

test.run()
