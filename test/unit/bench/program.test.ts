import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { runProgram } from '../../../bench/program.ts'

const test = suite<{ directory: string }>('program of the bench')
test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'program-'))
})
test.after.each(({ directory }) => rmSync(directory, { recursive: true, force: true }))

const REPORT = { rows: [], notes: ['a note'], peers: [] }
const WRITE = `require('fs').writeFileSync(process.argv[1], ${JSON.stringify(JSON.stringify(REPORT))})`
const WAIT = 'setInterval(() => {}, 1000)'

function run(
  directory: string,
  script: string,
  { limitMs = 60_000, signal = new AbortController().signal } = {},
) {
  const json = join(directory, 'report.json')
  return runProgram({ what: 'a suite', args: ['-e', script, json], json, limitMs, signal })
}

test('what a suite has measured before it failed is kept, and its failure told', async ({
  directory,
}) => {
  assert.equal(await run(directory, WRITE), { status: 0, report: REPORT })
  assert.equal(await run(directory, `${WRITE}; process.exit(3)`), {
    status: 3,
    report: { ...REPORT, notes: ['a note', 'a suite: failed (3)'] },
  })
})

test('a report that was cut off costs no other suite its results', async ({ directory }) => {
  const script = `require('fs').writeFileSync(process.argv[1], '{"rows": [')`
  const { status, report } = await run(directory, script)
  assert.equal({ status, rows: report.rows }, { status: 'no report', rows: [] })
})

test('one that takes too long is ended, and one for which no time is left not begun', async ({
  directory,
}) => {
  const late = { status: 'out of time', notes: ['a suite: failed (out of time)'] }
  for (const [script, limitMs] of [
    [WAIT, 300],
    [WRITE, 0],
  ] as const) {
    const { status, report } = await run(directory, script, { limitMs })
    assert.equal({ status, notes: report.notes }, late)
  }
  assert.throws(() => readFileSync(join(directory, 'report.json')), /ENOENT/)
})

test('a signal ends what runs', async ({ directory }) => {
  const { status } = await run(directory, WAIT, { signal: AbortSignal.timeout(300) })
  assert.is(status, 'SIGTERM')
})

test.run()
